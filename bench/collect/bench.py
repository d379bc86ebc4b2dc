#!/usr/bin/env python3
"""divvy's collection against other clients, in one run: CPU a row, rows a CPU second, memory, rate at 200 ms.

    python3 bench/collect/bench.py            # builds, installs the peers in their own environments, measures
    python3 bench/collect/bench.py --quick    # small numbers, to see that it works

Needs Rust and Python with pip; the peers come from the package index that pip is set up for.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import finish, install_into, median, row  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PORT = 8765
URL = f"http://127.0.0.1:{PORT}/v1"
PEERS = {
    "openai": ("openai_async.py", ["openai==3.57.0"]),
    "dspy": ("dspy_lm.py", ["dspy==3.4.1"]),
    "distilabel": ("distilabel_pipeline.py", ["distilabel[openai]==1.5.3", "requests"]),
    "curator": ("curator_llm.py", ["bespokelabs-curator==0.1.31"]),
}
RECIPE = """name = "bench"
[data]
leaks = "warn"
train = {{ dataset = "rows", files = ["{rows}"], columns = {{ question = "q" }} }}
[models.mock]
source = "{url}"
model = "mock"
concurrency = {concurrency}
[collect]
teacher = "mock"
"""


class Mock:
    """The loopback endpoint, with its own count of what it served."""

    def __init__(self, latency_ms, refused_per_mille):
        command = [ROOT / "target/release/mock", str(PORT), str(latency_ms), str(refused_per_mille)]
        self.process = subprocess.Popen(command)
        for _ in range(200):
            if self.process.poll() is not None:
                raise SystemExit(f"the mock endpoint does not start; is port {PORT} in use?")
            try:
                self.count()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit("the mock endpoint does not start")

    def count(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/count") as reply:
            return [int(number) for number in reply.read().split()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def questions(folder, count):
    path = folder / f"rows-{count}.jsonl"
    if not path.exists():
        with open(path, "w") as rows:
            for k in range(count):
                text = (
                    f"A shop had {k} boxes with {k % 37 + 3} pens each, sold {k % 11} boxes in the morning and got "
                    f"{k % 7 + 2} new ones at noon. How many pens are there now?"
                )
                rows.write(json.dumps({"q": text}) + "\n")
    return path


class Watch(threading.Thread):
    """How many requests the endpoint had seen, ten times a second."""

    def __init__(self, mock):
        super().__init__(daemon=True)
        self.mock, self.over, self.seen = mock, threading.Event(), []
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            self.seen.append((time.monotonic(), sum(self.mock.count())))

    def rate(self, count):
        """Requests a second from the first fifth of `count` to the last tenth: neither the start nor the last rows' retries.

        The slope by least squares: requests come in waves, a latency apart, and from one count to another at most a wave too few
        or too many would be seen."""
        self.over.set()
        middle = [(at, seen) for at, seen in self.seen if 0.2 * count <= seen <= 0.9 * count]
        return statistics.linear_regression(*zip(*middle)).slope


def measured(command, cwd, limit):
    """Wall seconds, CPU seconds of the process and its children, peak resident MB of the largest of them."""
    log = open(cwd / "log", "w")
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env=os.environ | {"DIVVY_CACHE": str(cwd)})
    killer = threading.Timer(limit, process.kill)
    killer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        killer.cancel()
    if status != 0:
        raise RuntimeError((cwd / "log").read_text()[-300:].strip() or f"status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run(name, count, concurrency, latency_ms, refused_per_mille, folder, limit=900):
    rows = questions(folder, count)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, Mock(latency_ms, refused_per_mille) as mock:
        scratch = pathlib.Path(scratch)
        if name == "divvy":
            (scratch / "r.toml").write_text(RECIPE.format(rows=rows, url=URL, concurrency=concurrency))
            command = [ROOT / "target/release/divvy", "collect", "r.toml"]
        else:
            python = folder / "venvs" / name / "bin/python"
            command = [python, HERE / "peers" / PEERS[name][0], rows, URL, str(concurrency), scratch / "out.jsonl"]
        watch = Watch(mock) if latency_ms else None
        wall, cpu, memory = measured(command, scratch, limit)
        served, refused = mock.count()
        if served < count:
            raise RuntimeError(f"{count - served} of {count} rows were not answered")
        rate = watch.rate(served + refused) if watch else None
        return {"wall": wall, "cpu": cpu, "memory": memory, "served": served, "refused": refused, "rate": rate}


def slope(small, large, key, *counts):
    """What one more of those in `counts` takes, start-up left out."""
    return (large[key] - small[key]) / sum(large[count] - small[count] for count in counts)


def install(folder):
    usable = []
    for name, (_, packages) in PEERS.items():
        install_into(folder / "venvs" / name, packages)
        usable.append(name)
    return usable


def per_request(contenders, sizes, rounds, folder):
    """CPU seconds for everybody, a row and a request (a refused one is asked again for its row), in turns, so that what else
    the machine does falls on all."""
    costs, requests, memory, failed = {name: [] for name in contenders}, {name: [] for name in contenders}, {}, {}
    for round_number in range(rounds):
        for name in list(contenders):
            if name in failed:
                continue
            try:
                small, large = (run(name, count, 64, 0, 50, folder) for count in sizes[name])
            except RuntimeError as error:
                failed[name] = str(error).splitlines()[-1][:200]
                continue
            costs[name].append(slope(small, large, "cpu", "served"))
            requests[name].append(slope(small, large, "cpu", "served", "refused"))
            memory[name] = max(memory.get(name, 0), large["memory"])
            each = f"{costs[name][-1] * 1e6:8.0f} µs of CPU a row, {requests[name][-1] * 1e6:.0f} a request"
            print(f"round {round_number + 1}: {name:<11} {each}", flush=True)
    medians = [{name: median(values) for name, values in of.items() if values} for of in (costs, requests)]
    return *medians, memory, failed


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench-collect")
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    build = ["cargo", "build", "--release", "-p", "divvy", "-p", "divvy-testkit", "--bins"]
    subprocess.run(build, cwd=ROOT, check=True)
    peers = install(given.folder)
    divvy, others, rounds = ([1000, 3000], [100, 300], 1) if given.quick else ([2000, 22000], [200, 2200], 3)
    sizes = {"divvy": divvy} | {name: others for name in peers}
    costs, requests, memory, failed = per_request(["divvy", *peers], sizes, rounds, given.folder)
    rows = []

    row(rows, "CPU a collected row, store on", "µs", costs["divvy"] * 1e6, None, None, "≤ 50", "lower")
    row(rows, "CPU a request, refused ones included, store on", "µs", requests["divvy"] * 1e6, None, None, "≤ 50", "lower")
    for name in peers:
        if name in costs:
            target = "≥ 20 × the best peer"
            row(rows, "rows a CPU second", "1/s", 1 / costs["divvy"], 1 / costs[name], name, target, "higher")
            row(rows, "peak memory, rows of the run", "MB", memory["divvy"], memory[name], name, None, "lower")
    slow = run("divvy", 10000 if given.quick else 60000, 1024, 200, 50, given.folder)
    what, whole = "requests a second at 200 ms and 1,024 at once, 5 % refused", (slow["served"] + slow["refused"]) / slow["wall"]
    row(rows, f"{what}, under way", "1/s", slow["rate"], 1024 / 0.2, "theory", "≥ 0.95", "higher")
    row(rows, f"{what}, with start and the last rows' retries", "1/s", whole, 1024 / 0.2, "theory", None, "higher")
    big = [10000] if given.quick else [100000, 1000000]
    for count in big:
        used = run("divvy", count, 256, 0, 0, given.folder, limit=3000)["memory"]
        row(rows, f"peak memory at {count:,} rows", "MB", used, None, None, "< 150, flat to 1,000,000", "lower")
    finish(HERE, rows, write=not given.quick, rounds=rounds, not_run=failed)


if __name__ == "__main__":
    main()
