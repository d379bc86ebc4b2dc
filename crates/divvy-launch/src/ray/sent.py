"""Trains on a node of Ray that shares no folder with divvy: `sent.py [--processes=N]`.

Ray has unpacked what divvy sent: beside this file `train.py` and the job, and, on PYTHONPATH, the base's weights in parts.
All go into a folder of this process alone, since jobs of one archive share theirs. What divvy is to know goes to the log, a
line each, where it reads them:

    divvy-step: {...}      a line of metrics.jsonl
    divvy-part: BASE64     a piece of an archive of result/, once training came to its end
    divvy-whole: BYTES     the archive was so long
"""

import base64
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

PIECE = 48 * 1024


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def lay_out(here, folder):
    shutil.copytree(here / "job", folder, dirs_exist_ok=True)
    parts = [part for place in sys.path for part in Path(place or ".").glob("divvy_base/*")]
    for part in sorted({part.name: part for part in parts}.values(), key=lambda part: part.name):
        with open(folder / "base" / part.name.rpartition(".")[0], "ab") as whole, open(part, "rb") as file:
            shutil.copyfileobj(file, whole)


def tell_steps(path, ended):
    """Whole lines of the log, as they come."""
    read, rest, last = 0, "", False
    while True:
        if path.exists():
            with open(path, encoding="utf-8") as file:
                file.seek(read)
                rest += file.read()
                read = file.tell()
            *lines, rest = rest.split("\n")
            for line in lines:
                say(f"divvy-step: {line}")
        if last:
            return
        last = ended.wait(0.5)


def hand_back(result):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zip:
        for file in sorted(result.iterdir()):
            zip.write(file, file.name)
    whole = archive.getvalue()
    for at in range(0, len(whole), PIECE):
        say("divvy-part: " + base64.b64encode(whole[at : at + PIECE]).decode())
    say(f"divvy-whole: {len(whole)}")


def main():
    here, folder = Path(__file__).resolve().parent, Path(tempfile.mkdtemp(prefix="divvy-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        lay_out(here, folder)
        words = [sys.executable, "-u", str(folder / "train.py"), str(folder), *sys.argv[1:]]
        # Its standard input ends with this process, however that ends.
        training = subprocess.Popen(words, stdin=subprocess.PIPE, env=os.environ | {"DIVVY_WATCH_STDIN": "1"})
        signal.signal(signal.SIGTERM, lambda *_: training.stdin.close())
        ended = threading.Event()
        telling = threading.Thread(target=tell_steps, args=(folder / "metrics.jsonl", ended))
        telling.start()
        code = training.wait()
        ended.set()
        telling.join()
        if (folder / "result").is_dir():
            hand_back(folder / "result")
        # As a shell tells of a signal.
        sys.exit(code if code >= 0 else 128 - code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
