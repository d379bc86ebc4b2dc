#!/usr/bin/env python3
"""divvy against itself: one to eight shards of a collection on one PostgreSQL server, and PyTorch in one and two processes.

    python3 bench/scaling/bench.py                                    # builds divvy and the endpoint; the shards alone
    python3 bench/scaling/bench.py --python VENV/bin/python --model SmolLM2-135M.gguf      # the training, too

Needs Rust and PostgreSQL's programs; for the training an interpreter with PyTorch, TRL and PEFT (docs/scaling.md).
"""
import argparse
import glob
import json
import os
import pathlib
import pwd
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import finish, row  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PORT = 8767
LATENCY_MS = 200
CONCURRENCY = 32
SHARDS = [1, 2, 4, 8]
COLLECT = """name = "shards"
[data]
leaks = "warn"
train = {{ dataset = "rows", files = ["{rows}"], columns = {{ question = "q" }} }}
[models.mock]
source = "http://127.0.0.1:{port}/v1"
model = "mock"
concurrency = {concurrency}
[collect]
teacher = "mock"
"""
STEPS = 3
TRAIN = """name = "processes"
seed = 7
[data]
dev_rows = 2
train = {{ dataset = "synth", rows = {rows} }}
[models.small]
source = "path:{model}"
[collect]
teacher = "recorded"
[students.sd]
base = "small"
target = "SD-T"
rank = 16
epochs = 1
batch_rows = 8
checkpoint_every = 0
eval_every = 0
max_row_tokens = 600
[train]
engine = "torch"
python = "{python}"
{launch}
"""


class Postgres:
    """A server of its own on a socket, as it comes: a commit is on the disk."""

    def __init__(self, folder):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
        self.programs, self.folder = pathlib.Path(programs[-1]), folder
        # It refuses to run as root.
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            os.chown(folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.run("initdb", "--auth=trust", "--username=divvy", "--encoding=UTF8", "-D", folder / "data")
        command = [self.programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="]
        log = open(folder / "log", "w")
        self.server = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, cwd=folder)
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", folder]).returncode != 0:
            if self.server.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.05)

    def run(self, program, *arguments):
        command = [self.programs / program, *arguments]
        subprocess.run(command, check=True, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL)

    def database(self, name):
        self.run("createdb", "-h", self.folder, "-U", "divvy", name)
        return f"postgres://divvy@localhost/{name}?host={self.folder}"

    def asks(self, name, sql):
        psql = [self.programs / "psql", "-qAtX", "-h", self.folder, "-U", "divvy", "-d", name, "-c", sql]
        return subprocess.run(psql, check=True, capture_output=True, text=True).stdout.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.server.terminate()
        self.server.wait()
        self.cpu_s = cpu_since(before)


def cpu_since(before):
    """Seconds of processor time of all programs that have ended since."""
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def questions(path, count):
    with open(path, "w") as rows:
        for k in range(count):
            text = f"A shop had {k} boxes with {k % 37 + 3} pens each and sold {k % 11} boxes. How many pens are left?"
            rows.write(json.dumps({"q": text}) + "\n")
    return path


def served():
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/count") as reply:
        return int(reply.read().split()[0])


def endpoint(programs):
    mock = subprocess.Popen([programs / "mock", str(PORT), str(LATENCY_MS), "0"])
    for _ in range(200):
        try:
            served()
            return mock
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"the endpoint does not start; is port {PORT} in use?")


def shards(programs, server, count, each, folder):
    """So many workers at once, each with the same share of the work."""
    rows, database = count * each, f"shards{count}"
    store = server.database(database)
    recipe = COLLECT.format(rows=questions(folder / "rows.jsonl", rows), port=PORT, concurrency=CONCURRENCY)
    (folder / "r.toml").write_text(recipe)
    environment = os.environ | {"DIVVY_STORE": store, "DIVVY_CACHE": str(folder)}
    before, began, log = served(), time.monotonic(), open(folder / "log", "w")
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [programs / "divvy", "collect", "r.toml"]
    crew = [subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) for _ in range(count)]
    if any([worker.wait() for worker in crew]):
        raise SystemExit((folder / "log").read_text()[-800:])
    wall = time.monotonic() - began
    seconds = cpu_since(cpu)
    done = int(server.asks(database, "SELECT count(*) FROM divvy.item WHERE state = 'done'"))
    if done != rows or served() - before != rows:
        raise SystemExit(f"{done} rows and {served() - before} requests instead of {rows}")
    size = int(server.asks(database, f"SELECT pg_database_size('{database}')"))
    return {"shards": count, "rows": rows, "wall_s": wall, "rows_per_s": rows / wall, "store_bytes_a_row": size / rows,
            "at_most_per_s": count * CONCURRENCY * 1000 / LATENCY_MS, "worker_cpu_us_a_row": seconds / rows * 1e6}


def training(programs, python, model, name, launch, threads, folder):
    """Tokens a second of each step but the first, in which everything is new."""
    recipe = TRAIN.format(rows=8 * STEPS, model=model, python=python, launch=launch)
    (folder / f"{name}.toml").write_text(recipe)
    environment = os.environ | {"DIVVY_CACHE": str(folder), "OMP_NUM_THREADS": str(threads)}
    command = [programs / "divvy", "train", f"{name}.toml", "--store", name]
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, stderr=open(folder / f"{name}.log", "w"))
    wall = time.monotonic() - began
    report = [programs / "divvy", "report", f"{name}.toml", "--store", name, "--json"]
    told = subprocess.run(report, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
    curve = json.loads(told)["training"][0]["curve"][1:]
    seconds = sum(step["tokens"] / step["tokens_per_second"] for step in curve)
    tokens = sum(step["tokens"] for step in curve)
    return {"how": name, "threads_each": threads, "tokens_per_s": tokens / seconds, "tokens": tokens, "wall_s": wall}


def trainings(programs, python, model, folder):
    torchrun = 'launch = "torchrun"\nprocesses = 2'
    ways = [("one-process-one-thread", "", 1), ("one-process-two-threads", "", 2), ("two-processes", torchrun, 1)]
    return [training(programs, python, model, *way, folder) for way in ways]


def as_rows(results):
    """The peer of several is one of the kind; of requests, also what the endpoint's latency allows."""
    rows, one = [], results["shards"][0]
    for many in results["shards"]:
        count, rate = many["shards"], many["rows_per_s"]
        shards = f"{count} shard{'s' if count > 1 else ''}"
        row(rows, f"rows a second, {shards}", "1/s", rate, many["at_most_per_s"], "theory", None, "higher")
        if count > 1:
            row(rows, f"rows a second, {shards}", "1/s", rate, one["rows_per_s"], "1 shard", None, "higher")
        row(rows, f"CPU of the workers a row, {shards}", "µs", many["worker_cpu_us_a_row"], None, None, None, "lower")
        row(rows, f"store a row, {shards}", "bytes", many["store_bytes_a_row"], None, None, None, "lower")
    row(rows, "CPU of PostgreSQL a row, all shards", "µs", results["server_cpu_us_a_row"], None, None, None, "lower")
    for way in results.get("training", []):
        one = results["training"][0]
        peer, name = (None, None) if way is one else (one["tokens_per_s"], one["how"])
        row(rows, f"training, {way['how']}", "tokens/s", way["tokens_per_s"], peer, name, None, "higher")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=pathlib.Path, help="a folder with divvy and mock that are built already")
    parser.add_argument("--each", type=int, default=1200, help="rows a shard")
    parser.add_argument("--python", help="an interpreter for the training")
    parser.add_argument("--model", help="SmolLM2-135M as a GGUF file, for the training")
    options = parser.parse_args()
    if options.programs is None:
        options.programs = ROOT / "target/release"
        build = ["cargo", "build", "--release", "-p", "divvy", "-p", "divvy-testkit", "--bin", "divvy", "--bin", "mock"]
        subprocess.run(build, cwd=ROOT, check=True)
    results = {}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as data:
        folder, mock = pathlib.Path(folder), endpoint(options.programs)
        try:
            with Postgres(pathlib.Path(data)) as server:
                results["shards"] = [shards(options.programs, server, count, options.each, folder) for count in SHARDS]
            rows = sum(result["rows"] for result in results["shards"])
            results["server_cpu_us_a_row"] = server.cpu_s / rows * 1e6
        finally:
            mock.kill()
            mock.wait()
        if options.python and options.model:
            results["training"] = trainings(options.programs, options.python, options.model, folder)
    finish(HERE, as_rows(results), write=True, **results)


if __name__ == "__main__":
    main()
