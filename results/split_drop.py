"""Splits DROP's development set by passage, since its training set with passages is not always to be had.

    python3 results/split_drop.py DIR     # DIR/drop/dev_questions.jsonl and dev_passages.jsonl -> DIR/drop/split/{train,test}.jsonl

Passages with an even number are for training, the others for testing, so that no passage is in both. A question whose golds cannot be
told apart into spans (`gold_spans` is null) is left out of both.
"""

import json
import pathlib
import sys


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def split(folder, out):
    parts = {0: [], 1: []}
    for passage in rows(folder / "dev_passages.jsonl"):
        parts[passage["passage_id"] % 2].append(passage)
    for question in rows(folder / "dev_questions.jsonl"):
        if question["gold_spans"] is not None:
            parts[question["passage_id"] % 2].append(question)
    out.mkdir(exist_ok=True)
    for name, part in (("train", parts[0]), ("test", parts[1])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    source = pathlib.Path(sys.argv[1]) / "drop"
    split(source, pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else source / "split")
