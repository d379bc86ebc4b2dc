#!/usr/bin/env python3
"""divvy serve under load and abuse for ten minutes: it must neither fall over, leak, nor lose a request from its books.

    python3 bench/serve/soak.py [--minutes 10]

The upstream refuses 5 % of what it is asked. Beside a steady load, clients come that break off, that send their bytes one by
one, that close one half, whose chunks are malformed, whose body has 10 MB or is not UTF-8, or that leave in mid-stream.
"""
import argparse
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

from bench import BIN, DIVVY, OTHER_CORE, ROOT, SERVICE_CORE, UPSTREAM, Running, get, recipe

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"


def chat(stream=False, model="two-stage/mock/mock", content="How many?"):
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}).encode()


def request(body):
    return HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body


def connect():
    client = socket.create_connection(("127.0.0.1", DIVVY), timeout=20)
    return client


def reset(client):
    """Closes with a reset instead of a farewell."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def drain(client):
    try:
        while client.recv(65536):
            pass
    except OSError:
        pass
    client.close()


def breaks_off(rng):
    client = connect()
    whole = request(chat(stream=True))
    client.sendall(whole[: rng.randrange(1, len(whole))])
    reset(client)


def slow_loris(rng):
    client = connect()
    for byte in request(chat())[: rng.randrange(5, 40)]:
        client.sendall(bytes([byte]))
        time.sleep(0.02)
    client.close()


def half_closed(_):
    client = connect()
    client.sendall(request(chat(stream=True)))
    client.shutdown(socket.SHUT_WR)
    drain(client)


def bad_chunks(rng):
    client = connect()
    bad = rng.choice([b"zz\r\nhello\r\n", b"5\r\nhel", b"ffffffffffffffff\r\nx", b"-1\r\n\r\n", b"5\r\nhelloXX"])
    client.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + bad)
    client.shutdown(socket.SHUT_WR)
    drain(client)


def large(_):
    client = connect()
    try:
        client.sendall(request(b'{"model": "' + b"x" * 10_000_000))
    except OSError:
        pass  # refused before it was all sent
    drain(client)


def not_utf8(rng):
    client = connect()
    client.sendall(request(bytes(rng.randrange(256) for _ in range(200))))
    client.shutdown(socket.SHUT_WR)
    drain(client)


def leaves(_):
    client = connect()
    client.sendall(request(chat(stream=True, content="HOLD")))
    client.recv(1024)
    reset(client)


def no_http(rng):
    client = connect()
    client.sendall(bytes(rng.randrange(256) for _ in range(300)))
    drain(client)


ABUSES = [breaks_off, slow_loris, half_closed, bad_chunks, large, not_utf8, leaves, no_http]


def abuse(until, seed, counts):
    rng = random.Random(seed)
    while time.monotonic() < until:
        kind = rng.choice(ABUSES)
        try:
            kind(rng)
        except OSError as error:
            counts.setdefault(f"{kind.__name__}: {error}", 0)
            counts[f"{kind.__name__}: {error}"] += 1
        counts[kind.__name__] = counts.get(kind.__name__, 0) + 1


def asks(until, books):
    """A well-behaved client that keeps count."""
    while time.monotonic() < until:
        for model in ("mock", "two-stage/mock/mock", "sequential/mock/mock"):
            call = urllib.request.Request(f"http://127.0.0.1:{DIVVY}/v1/chat/completions", chat(model=model))
            try:
                with urllib.request.urlopen(call, timeout=30) as reply:
                    json.load(reply)
                    status = reply.status
            except urllib.error.HTTPError as error:
                json.load(error)
                status = error.code
            books[status] = books.get(status, 0) + 1


def counted():
    """Requests in divvy's books, by outcome."""
    outcomes = {}
    for line in get(DIVVY, "/metrics").splitlines():
        if line.startswith("divvy_requests_total{"):
            outcome = line.split('outcome="')[1].split('"')[0]
            outcomes[outcome] = outcomes.get(outcome, 0) + int(line.split()[-1])
    return outcomes


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench-serve")
    given = arguments.parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--release", "-p", "divvy", "-p", "divvy-testkit", "--bins"], cwd=ROOT, check=True)
    (folder / "recipe.toml").write_text(recipe(at_once=20000))
    serve = [BIN / "divvy", "serve", "recipe.toml", "--store", "runs", "--listen", f"127.0.0.1:{DIVVY}"]
    with Running("mock", [BIN / "mock", str(UPSTREAM), "0", "50"], UPSTREAM, OTHER_CORE, folder), \
            Running("soak", serve, DIVVY, SERVICE_CORE, folder) as divvy:
        until, abuses, books = time.monotonic() + 60 * given.minutes, {}, {}
        threads = [threading.Thread(target=abuse, args=(until, seed, abuses)) for seed in range(6)]
        threads += [threading.Thread(target=asks, args=(until, books)) for _ in range(2)]
        for thread in threads:
            thread.start()
        memory = []
        while time.monotonic() < until:
            time.sleep(min(20, max(0.1, until - time.monotonic())))
            memory.append(round(divvy.memory(), 1))
            print(f"{memory[-1]} MB, {sum(books.values())} answered, {sum(v for k, v in abuses.items() if ':' not in k)} abuses", flush=True)
        for thread in threads:
            thread.join()
        time.sleep(2)
        outcomes = counted()
        log = (folder / "soak.log").read_text()
        gauges = {name: int(next(line for line in get(DIVVY, "/metrics").splitlines() if line.startswith(f"divvy_{name} ")).split()[-1])
                  for name in ("running", "waiting")}
        report = {"minutes": given.minutes, "clients' count": books, "divvy's count": outcomes, "abuses": abuses,
                  "memory MB": memory, "still": gauges, "panics": log.count("panicked")}
        print(json.dumps(report, indent=1))
        # Abuses add to divvy's books, never to the clients'.
        lost = {status: count for status, count in books.items() if outcomes.get(str(status), 0) < count}
        early = memory[len(memory) // 4] if len(memory) > 3 else memory[0]
        if divvy.process.poll() is not None or report["panics"] or lost or any(gauges.values()) or memory[-1] > early + 20:
            sys.exit("FAILED: it fell over, panicked, lost count, holds what is over, or grew")


if __name__ == "__main__":
    main()
