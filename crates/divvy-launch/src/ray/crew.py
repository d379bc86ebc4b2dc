"""Trains on several nodes of Ray, which see one folder at the same place: `crew.py FOLDER --nodes=N [--processes=P] [--gpus=G]`.

Ray finds the nodes, one bundle each, and a process on every one of them runs `train.py`, as a person would by hand. What they
say is in log.txt in the folder. Who is told to stop, tells them, and waits for their checkpoint.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

stop = threading.Event()


class Node:
    """A machine of the crew, as seen from itself."""

    def __init__(self):
        self.training, self.stopped = None, False

    def meet(self):
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def train(self, folder, words):
        with open(Path(folder) / "log.txt", "a") as log:
            words = [sys.executable, "-u", str(Path(folder) / "train.py"), folder, *words]
            # Its standard input ends with this process, however that ends.
            env = os.environ | {"DIVVY_WATCH_STDIN": "1"}
            self.training = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)
            if self.stopped:
                self.stop()
            code = self.training.wait()
            # As a shell tells of a signal.
            return code if code >= 0 else 128 - code

    def stop(self):
        self.stopped = True
        if self.training and not self.training.stdin.closed:
            self.training.stdin.close()


def main(options):
    ray.init()
    # After Ray, which has a handler of its own that ends at once.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    each = {"CPU": options.processes, "GPU": options.gpus}
    each = {kind: count for kind, count in each.items() if count}
    group = placement_group([each] * options.nodes, strategy="STRICT_SPREAD")
    while not ray.wait([group.ready()], timeout=1)[0]:
        if stop.is_set():
            sys.exit(1)
    nodes = []
    for at in range(options.nodes):
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=at)
        # One thread trains, the other hears that it is to stop.
        kind = ray.remote(num_cpus=options.processes, num_gpus=options.gpus, max_concurrency=2)(Node)
        nodes.append(kind.options(scheduling_strategy=place).remote())
    meet = ray.get(nodes[0].meet.remote())
    words = [f"--processes={options.processes}", f"--nodes={options.nodes}", f"--meet={meet}"]
    running = [node.train.remote(options.folder, [*words, f"--node={at}"]) for at, node in enumerate(nodes)]
    told, code = False, 0
    while running:
        ended, running = ray.wait(running, timeout=1)
        # One that has failed takes the others along: they wait for it.
        code = max([code, *ray.get(ended)])
        if (stop.is_set() or code) and not told:
            told = True
            ray.wait([node.stop.remote() for node in nodes], num_returns=len(nodes), timeout=5)
    sys.exit(code)


parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--nodes", type=int, required=True)
parser.add_argument("--processes", type=int, default=1)
parser.add_argument("--gpus", type=int, default=0)
main(parser.parse_args())
