#!/usr/bin/env python3
"""divvy serve under load, beside LiteLLM's proxy: what each adds to a request, memory, connections, cancellation.

    python3 bench/serve/bench.py            # builds, installs the peer in its own environment, measures
    python3 bench/serve/bench.py --quick    # small numbers, to see that it works
    python3 bench/serve/bench.py --tracing  # the service sends OpenTelemetry traces meanwhile, to the mock, which forgets them

Needs Linux with two cores or more, Rust, and Python with pip; the peer comes from the package index that pip is set up for.
"""
import argparse
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import finish, install_into, median, row  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BIN = ROOT / "target/release"
UPSTREAM, DIVVY, LITELLM = 8765, 8787, 8788
# The service has a core for itself; its upstream and the load share the other.
SERVICE_CORE, OTHER_CORE = "0", "1"
LITELLM_PACKAGES = ["litellm[proxy]==1.108.7"]
RECIPE = f"""name = "bench"
[data]
train = {{ dataset = "synth", rows = 4 }}
test = {{ dataset = "synth", rows = 4 }}
[models.mock]
source = "http://127.0.0.1:{UPSTREAM}/v1"
model = "mock"
concurrency = 20000
price = {{ input = "1", output = "2" }}
[collect]
teacher = "recorded"
[evaluate]
solvers = ["mock"]
strategies = ["two-stage", "sequential"]
decomposers = ["mock"]
[serve]
concurrency = AT_ONCE
queue = 20000
"""


def recipe(at_once):
    """With so many requests answered at once; the others wait."""
    return RECIPE.replace("AT_ONCE", str(at_once))


LITELLM_CONFIG = f"""model_list:
  - model_name: mock
    litellm_params:
      model: openai/mock
      api_base: http://127.0.0.1:{UPSTREAM}/v1
      api_key: none
"""


class Running:
    """A process that listens on a port."""

    def __init__(self, name, command, port, core, folder):
        self.port, self.log = port, open(folder / f"{name}.log", "w")
        environment = os.environ | {"DIVVY_CACHE": str(folder), "DIVVY_LOG": "info",
                                    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
        self.process = subprocess.Popen(["taskset", "-c", core, *command], cwd=folder, stdout=self.log, stderr=self.log, env=environment)
        for _ in range(900):
            if self.process.poll() is not None:
                raise SystemExit(f"{name} does not start: {(folder / f'{name}.log').read_text()[-400:]}")
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{name} does not listen")

    def cpu(self):
        """Seconds of processor time so far, children included."""
        total = 0
        for pid in self.family():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident MB, children included."""
        lines = (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.family())
        return sum(int(line.split()[1]) for text in lines for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    def family(self):
        pids = [self.process.pid]
        for pid in pids:
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
        return pids

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def body(folder, name, model, content, stream=False):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}))
    return path


def load(how, port, file, *numbers, core=OTHER_CORE):
    command = ["taskset", "-c", core, BIN / "load", how, f"127.0.0.1:{port}", file, *map(str, numbers)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if result["failed"]:
        print(f"{result['failed']} of {result['requests']} requests failed at port {port}", file=sys.stderr)
    return result


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as reply:
        return reply.read().decode()


def added(rows, folder, services, quick):
    """Latency through a service less the latency of the upstream itself, at a fixed rate, in turns."""
    plain, stream = body(folder, "plain", "mock", "How many?"), body(folder, "stream", "mock", "How many?", True)
    seconds, rounds = (2, 1) if quick else (10, 3)
    for what, file, key in [("a reply in one piece", plain, "whole_ms"), ("the first piece of a stream", stream, "first_ms")]:
        for rate in [1000, 10]:
            found = {}
            for _ in range(rounds):
                for name, port in [("upstream", UPSTREAM), *services.items()]:
                    if name == "litellm" and rate > 10:
                        continue  # one core of it answers some seventy
                    found.setdefault(name, []).append(load("paced", port, file, rate, seconds, 32)[key])
            base = {share: median([times[share] for times in found["upstream"]]) for share in ("p50", "p99")}
            for share in ("p50", "p99"):
                over = {name: median([times[share] for times in all_times]) - base[share] for name, all_times in found.items()}
                target = "< 1" if share == "p99" and rate == 1000 else None
                row(rows, f"added to {what}, {share}, at {rate} requests/s", "ms", over["divvy"], over.get("litellm"),
                    "litellm" if "litellm" in over else None, target, "lower")
                print(rows[-1], flush=True)


def cpu_a_request(rows, folder, running, quick):
    file = folder / "plain.json"
    counts = {"divvy": 2000 if quick else 30000, "litellm": 100 if quick else 1000}
    costs = {}
    for _ in range(1 if quick else 3):
        for name, service in running.items():
            before = service.cpu()
            load("flood", service.port, file, counts[name], 32)
            costs.setdefault(name, []).append((service.cpu() - before) / counts[name] * 1e6)
    costs = {name: median(values) for name, values in costs.items()}
    row(rows, "CPU a passed request", "µs", costs["divvy"], costs.get("litellm"), "litellm", None, "lower")
    print(rows[-1], flush=True)


def sequential(rows, folder, quick):
    """Ten calls one after another: decomposition, eight subquestions, answer. The critical path is ten times a call made
    directly from the service's own core, which is as far from the upstream; the rest holds divvy's own HTTP client too."""
    file = body(folder, "sequential", "sequential/mock/mock", "How many?")
    rounds, walls, calls = (1 if quick else 3), [], []
    for _ in range(rounds):
        calls.append(load("paced", UPSTREAM, folder / "stream.json", 500, 2, 8, core=SERVICE_CORE)["whole_ms"]["p50"])
        walls.append(load("paced", DIVVY, file, 50, 2 if quick else 10, 8)["whole_ms"])
    for share, target in [("p50", None), ("p99", "< 2")]:
        over = median([wall[share] for wall in walls]) - 10 * median(calls)
        row(rows, f"sequential at 8 subquestions, wall less 10 direct calls, {share}", "ms", over, None, None, target, "lower")
        print(rows[-1], flush=True)
    row(rows, "sequential at 8 subquestions, divvy's own share by its metric, p99 at most", "ms",
        own_share("sequential/mock/mock", 0.99) * 1000, None, None, "< 2", "lower")
    print(rows[-1], flush=True)


def own_share(model, share):
    """Upper bound of the bucket in which this share of `divvy_overhead_seconds` lies."""
    lines = [line for line in get(DIVVY, "/metrics").splitlines() if line.startswith("divvy_overhead_seconds_bucket") and f'model="{model}"' in line]
    buckets = [(float(line.split('le="')[1].split('"')[0]), int(line.split()[-1])) for line in lines]
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= share * total)


def memory_over_requests(rows, folder, divvy, quick):
    # At first the buffers of connections and pools come to their sizes.
    load("flood", DIVVY, folder / "plain.json", 1000 if quick else 50000, 32)
    before = divvy.memory()
    total = 5000 if quick else 1_000_000
    load("flood", DIVVY, folder / "plain.json", total, 32)
    row(rows, f"resident memory after {total:,} requests, grown by", "MB", divvy.memory() - before, None, None, "flat", "lower")
    row(rows, f"resident memory after {total:,} requests", "MB", divvy.memory(), None, None, None, "lower")
    print(rows[-2:], flush=True)


def idle_streams(rows, folder, divvy, quick, how, count, what):
    """`hold`: each stream has one of its own open upstream. `wait`: few are answered, the others stand in line."""
    count = 200 if quick else count
    file = body(folder, "hold", "mock", "HOLD", True)
    before = divvy.memory()
    holder = subprocess.Popen([BIN / "load", how, f"127.0.0.1:{DIVVY}", file, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told = json.loads(holder.stdout.readline())
    time.sleep(1 if quick else 15)  # heads are out, and a comment to keep each connection open
    held = divvy.memory()
    at_it = sum(int(line.split()[-1]) for line in get(DIVVY, "/metrics").splitlines() if line.startswith(("divvy_running ", "divvy_waiting ")))
    holder.stdin.close()
    holder.wait()
    if told["held"] < count or at_it < count:
        print(f"only {told} were held, {at_it} by the service's count", file=sys.stderr)
    row(rows, f"resident memory with {told['held']:,} idle streams, {what}", "MB", held, None, None, "< 300 at 10,000", "lower")
    print(rows[-1], f"before: {before:.0f} MB", flush=True)


def cancelled(rows, quick):
    """From a client's going away until the upstream hears of it."""
    windows = [("before the first piece", "mock", "HANG", True), ("in mid-stream", "mock", "HOLD", True),
               ("between stages", "two-stage/mock/mock", "LATER", True), ("not streaming", "two-stage/mock/mock", "LATER", False)]
    for window, model, content, stream in windows:
        times = [leave(model, content, stream) * 1000 for _ in range(3 if quick else 30)]
        row(rows, f"upstream hears of a client that left {window}, slowest of {len(times)}", "ms", max(times), None, None, "< 100", "lower")
        print(rows[-1], flush=True)


def leave(model, content, stream):
    before = int(get(UPSTREAM, "/abandoned"))
    text = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]})
    client = socket.create_connection(("127.0.0.1", DIVVY))
    client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
    time.sleep(0.15)
    left = time.monotonic()
    client.close()
    while int(get(UPSTREAM, "/abandoned")) == before:
        if time.monotonic() - left > 10:
            raise SystemExit(f"{model}: the upstream never heard that the client left")
    return time.monotonic() - left


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--no-peer", action="store_true")
    arguments.add_argument("--tracing", action="store_true")
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench-serve")
    given = arguments.parse_args()
    folder, quick = given.folder, given.quick
    if given.tracing:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{UPSTREAM}"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--release", "-p", "divvy", "-p", "divvy-testkit", "--bins"], cwd=ROOT, check=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    (folder / "recipe.toml").write_text(recipe(at_once=20000))
    (folder / "line.toml").write_text(recipe(at_once=64))
    (folder / "litellm.yaml").write_text(LITELLM_CONFIG)
    rows = []
    serve = [BIN / "divvy", "serve", "recipe.toml", "--store", "runs", "--listen", f"127.0.0.1:{DIVVY}"]
    with Running("mock", [BIN / "mock", str(UPSTREAM), "0", "0"], UPSTREAM, OTHER_CORE, folder), \
            Running("divvy", serve, DIVVY, SERVICE_CORE, folder) as divvy:
        running = {"divvy": divvy}
        if not given.no_peer:
            install_into(folder / "litellm", LITELLM_PACKAGES)
            command = [folder / "litellm/bin/litellm", "--config", "litellm.yaml", "--port", str(LITELLM), "--host", "127.0.0.1"]
            running["litellm"] = Running("litellm", command, LITELLM, SERVICE_CORE, folder)
        try:
            added(rows, folder, {name: service.port for name, service in running.items()}, quick)
            cpu_a_request(rows, folder, running, quick)
            if "litellm" in running:
                row(rows, "resident memory after these", "MB", divvy.memory(), running["litellm"].memory(), "litellm", None, "lower")
        finally:
            if "litellm" in running:
                running.pop("litellm").__exit__()
        sequential(rows, folder, quick)
        cancelled(rows, quick)
        idle_streams(rows, folder, divvy, quick, "hold", 9900, "each with its own upstream")
    # A fresh process, so that the memory of what was before does not count.
    with Running("mock", [BIN / "mock", str(UPSTREAM), "0", "0"], UPSTREAM, OTHER_CORE, folder), \
            Running("divvy", serve, DIVVY, SERVICE_CORE, folder) as divvy:
        memory_over_requests(rows, folder, divvy, quick)
    with Running("mock", [BIN / "mock", str(UPSTREAM), "0", "0"], UPSTREAM, OTHER_CORE, folder), \
            Running("divvy", ["line.toml" if word == "recipe.toml" else word for word in serve], DIVVY, SERVICE_CORE, folder) as divvy:
        idle_streams(rows, folder, divvy, quick, "wait", 10000, "of which 64 are answered and the others wait their turn")
    finish(HERE, rows, write=not quick, tracing=given.tracing)


if __name__ == "__main__":
    main()
