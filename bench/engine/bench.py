#!/usr/bin/env python3
"""divvy's engine against PyTorch and llama.cpp on this machine: training, generation, matrix products, cost as work grows.

    python3 bench/engine/bench.py                    # builds, installs and builds the peers, measures everything
    python3 bench/engine/bench.py --quick            # few steps, to see that it works; writes no results
    python3 bench/engine/bench.py --only train       # one part; what else is in results.json stays
    python3 bench/engine/bench.py --data DIR         # train on DIR/gsm8k/train_socratic.jsonl, not ../shared/data's

Needs Rust, a C++ compiler and Python with pip; models and peers come from the package index that pip is set up for.
"""
import argparse
import datetime
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent)]
import cost  # noqa: E402
import generate  # noqa: E402
import products  # noqa: E402
import tools  # noqa: E402
import train  # noqa: E402
from common import machine  # noqa: E402

PARTS = {
    "train": train.measure, "generate": generate.measure, "solver": generate.measure_solver, "gemm": products.measure, "cost": cost.measure,
}


def data():
    """The folder of data sets beside the repository, where it has the rows."""
    beside = tools.ROOT.parent / "shared/data"
    return beside if (beside / "gsm8k/train_socratic.jsonl").exists() else None


def arguments():
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--quick", action="store_true")
    given.add_argument("--only", action="append", choices=PARTS, help="a part; may be given several times")
    given.add_argument("--rounds", type=int, default=3, help="turns of everybody; the median counts (3)")
    given.add_argument("--steps", type=int, default=5, help="optimiser steps of a training run, the first not counted (5)")
    given.add_argument("--models", default="smollm2-135m,qwen2.5-coder-0.5b", help="students to train, as `divvy models` names them")
    given.add_argument("--methods", default="lora,full")
    given.add_argument("--variants", default=",".join(train.VARIANTS), help="ways of PyTorch to train")
    where = "folder with gsm8k/train_socratic.jsonl (../shared/data if it has that, or else rows are generated)"
    given.add_argument("--data", type=pathlib.Path, default=data(), help=where)
    given.add_argument("--threads", type=int, default=2)
    given.add_argument("--folder", type=pathlib.Path, default=tools.ROOT / "target/bench-engine")
    given.add_argument("--no-build", action="store_true", help="take divvy's programs in target/release as they are")
    given.add_argument("--torch-venv", type=pathlib.Path, help="an environment that has the PyTorch peers already")
    given.add_argument("--llama", type=pathlib.Path, help="a folder with llama-bench and llama-batched-bench")
    given = given.parse_args()
    if given.quick:
        given.rounds, given.steps, given.models = 1, 2, given.models.split(",")[0]
        # torch.compile takes some minutes to begin.
        given.variants = ",".join(variant for variant in given.variants.split(",") if variant != "compile")
    return given


def key(row):
    """Without the peer: its name says how it did best, and a row beside others of another day would contradict them."""
    return row["part"], row["what"]


def merged(parts):
    """The results as they were, with what these parts measured anew in its place."""
    path = HERE / "results.json"
    old = json.loads(path.read_text()) if path.exists() else {"parts": {}, "rows": [], "machine": machine()}
    if old["machine"] != machine():
        # Figures of two machines do not go into one table.
        path.rename(HERE / f"results-{old['date']}.json")
        old = {"parts": {}, "rows": []}
    new = [{"part": name} | row for name, part in parts.items() for row in part["rows"]]
    measured = {key(row) for row in new}
    rows = [row for row in old["rows"] if key(row) not in measured] + new
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    told = {name: {key: value for key, value in part.items() if key != "rows"} for name, part in parts.items()}
    return {"date": datetime.date.today().isoformat(), "machine": machine(), "parts": old["parts"] | told, "rows": rows}


def main():
    given = arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not given.no_build:
        tools.build()
    parts = {}
    for name in given.only or [name for name in PARTS if not (given.quick and name == "solver")]:
        rows, more = PARTS[name](given)
        parts[name] = {"date": datetime.date.today().isoformat(), "rounds": given.rounds, **more, "rows": rows}
        report = merged(parts)
        if not given.quick:
            (HERE / "results.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(parts, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
