#!/usr/bin/env python3
"""divvy's DROP scoring against the official Python evaluator: 9,536 rows, the size of DROP's development set, in one run.

    python3 bench/score/bench.py                     # builds, installs the peer, measures
    python3 bench/score/bench.py --data ROWS.jsonl   # your rows: {"predicted": [...], "golds": [[...], ...]} a line
    python3 bench/score/bench.py --quick             # few rows, to see that it works

Needs Rust and Python with pip; the peer comes from the package index that pip is set up for.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import finish, install_into, median, row  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ["numpy==2.4.1", "scipy==1.17.0"]
# The wheel for its one file: what it depends on is not needed.
EVALUATOR = "allennlp-models==2.10.1"

NAMES = ["Ann", "Bo", "Cyrus", "the Reds", "Port Sample", "Lord Example", "a northern tribe", "J. K. Sample"]
WORDS = ["red", "older", "army", "field", "goal", "second", "quarter", "river", "treaty", "the", "of", "an", "half-back"]
MONTHS = ["January", "May", "June", "October"]


def number(rng):
    return rng.choice([str(rng.randint(0, 99)), f"{rng.randint(1, 99)}.{rng.randint(0, 9)}", f"{rng.randint(1, 90)},{rng.randint(100, 999)}"])


def span(rng):
    return " ".join([rng.choice(NAMES), *rng.sample(WORDS, rng.randint(0, 4))])


def gold(rng):
    """In DROP's own proportions, roughly: numbers, then single spans, several spans, dates."""
    kind = rng.choices(["number", "span", "spans", "date"], [60, 32, 6, 2])[0]
    if kind == "number":
        return [number(rng)]
    if kind == "date":
        return [f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1500, 2000)}"]
    return [span(rng) for _ in range(1 if kind == "span" else rng.randint(2, 5))]


def prediction(rng, golds):
    """Right, right in other words, partly right, or wrong."""
    spans = list(rng.choice(golds))
    manner = rng.random()
    if manner < 0.4:
        return spans
    if manner < 0.6:
        return [rng.choice(["The {}.", "{} yards", "{}%", "“{}”"]).format(text) for text in rng.sample(spans, len(spans))]
    if manner < 0.8:
        return [" ".join(text.split()[:2]) for text in spans[:-1] or spans] + [span(rng)] * rng.randint(0, 1)
    return [rng.choice([number, span])(rng)]


def generated(count):
    rng = random.Random(20_26)
    for index in range(count):
        first = gold(rng)
        golds = [first] + [rng.choice([first, gold(rng)]) for _ in range(rng.choices([0, 1, 2, 4], [40, 20, 20, 20])[0])]
        yield {"id": index, "predicted": prediction(rng, golds), "golds": golds}


def install(folder):
    venv = folder / "venv"
    install_into(venv, PACKAGES)
    evaluator = venv / "evaluator"
    if not evaluator.exists():
        target = ["--no-deps", "--target", str(evaluator), EVALUATOR]
        subprocess.run([venv / "bin/pip", "install", "-q", *target], check=True)
    return venv / "bin/python", evaluator / "allennlp_models/rc/tools/drop.py"


def run_divvy(rows, out):
    began = time.perf_counter()
    with open(out, "w") as file:
        command = [ROOT / "target/release/divvy", "score", "--scorer", "drop", "--predictions", rows]
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def run_official(python, evaluator, rows, out):
    began = time.perf_counter()
    done = subprocess.run([python, HERE / "peers/official.py", evaluator, rows, out], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["scoring"], time.perf_counter() - began


def agreement(ours, theirs):
    """Rows of which both say the same EM and F1, to the last bit."""
    def read(file):
        return [(row["em"], row["f1"]) for row in map(json.loads, open(file))]
    ours, theirs = read(ours), read(theirs)
    if len(ours) != len(theirs):
        raise SystemExit(f"divvy scored {len(ours)} rows, the official evaluator {len(theirs)}")
    return sum(a == b for a, b in zip(ours, theirs)), len(ours)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--data", type=pathlib.Path, help="rows of your own")
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench-score")
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--release", "-p", "divvy", "--bin", "divvy"], cwd=ROOT, check=True)
    python, evaluator = install(given.folder)
    data = given.data or given.folder / "rows.jsonl"
    if given.data is None:
        with open(data, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in generated(500 if given.quick else 9536))
    ours, scoring, whole = [], [], []
    # In turns, so that what else the machine does falls on both. divvy's run is short: it has more of them.
    for _ in range(1 if given.quick else 5):
        ours += [run_divvy(data, given.folder / "ours.jsonl") for _ in range(5)]
        loop, process = run_official(python, evaluator, data, given.folder / "theirs.jsonl")
        scoring.append(loop)
        whole.append(process)
    same, count = agreement(given.folder / "ours.jsonl", given.folder / "theirs.jsonl")
    if same != count:
        print(f"divvy and the official evaluator disagree on {count - same} of {count} rows", file=sys.stderr)
    rows, name = [], "official evaluator (allennlp-models 2.10.1)"
    rate = count / median(ours)
    row(rows, f"rows a second, {count:,} rows: divvy's whole process against Python's scoring loop alone", "1/s", rate,
        count / median(scoring), name, "≥ 100 ×", "higher")
    row(rows, f"rows a second, {count:,} rows: whole process against whole process", "1/s", rate, count / median(whole), name,
        "≥ 100 ×", "higher")
    row(rows, "rows with the same exact match and F1, to the last bit", "rows", same, count, name, "all", "higher")
    data_name = "generated" if given.data is None else given.data.name
    finish(HERE, rows, write=not given.quick, data=data_name, rounds=len(scoring), seconds={"divvy": sorted(ours), "official": sorted(scoring)})
    sys.exit(0 if same == count else 1)


if __name__ == "__main__":
    main()
