"""How long a report over 200,000 graded rows takes: see README.md."""
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent.parent
sys.path.insert(0, str(FOLDER.parent))
import common  # noqa: E402

PLACE = ROOT / "target/bench-report"
ROUNDS = 3
FORMS = {
    "the figures (Markdown)": [],
    "the page with every row and call": ["--html", "report.html"],
    "CSV of every row": ["--out", "rows.csv"],
    "Parquet of every row": ["--out", "rows.parquet"],
}


def store():
    """The store, made once, by the test that puts its page into a browser."""
    if (PLACE / "recipe.toml").exists():
        return
    environment = {**os.environ, "DIVVY_TEST_STORE": str(PLACE)}
    command = "cargo test -p divvy --test it -- --ignored two_hundred_thousand_rows_in_a_browser"
    subprocess.run(command.split(), check=True, cwd=ROOT, env=environment)


def timed(flags):
    """Wall and CPU seconds of the whole command, and its largest resident size in megabytes."""
    divvy = ROOT / "target/release/divvy"
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen([divvy, "report", "recipe.toml", *flags], cwd=PLACE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, flags
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def painted():
    """The slowest first paint of the page with all its rows, in seconds, in Chromium at a desk's size and a phone's."""
    clients = os.environ.get("DIVVY_TEST_CLIENTS")
    if clients is None:
        print("SKIPPED: the first paint; DIVVY_TEST_CLIENTS names no folder (examples/clients/README.md)", file=sys.stderr)
        return None
    driver = [pathlib.Path(clients) / "venv/bin/python", ROOT / "crates/divvy/tests/report.py"]
    arguments = [PLACE / "report.html", PLACE / "shots", "200000", "many"]
    said = subprocess.run([*driver, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return max(float(found) for found in re.findall(r"first paint (\d+) ms", said)) / 1000


def main():
    subprocess.run(["cargo", "build", "--release", "-p", "divvy"], check=True, cwd=ROOT)
    store()
    rows = []
    for what, flags in FORMS.items():
        rounds = [timed(flags) for _ in range(ROUNDS)]
        wall, cpu, memory = (common.median(values) for values in zip(*rounds))
        common.row(rows, f"{what}, 200,000 rows, wall", "s", wall, None, None, "< 5", "lower")
        common.row(rows, f"{what}, CPU", "s", cpu, None, None, None, "lower")
        common.row(rows, f"{what}, peak memory", "MB", memory, None, None, None, "lower")
    paint = painted()
    if paint is not None:
        common.row(rows, "first paint of the page, 200,000 rows", "s", paint, None, None, "< 2", "lower")
    missed = common.judge(rows)
    common.finish(FOLDER, rows, "--dry" not in sys.argv)
    for one in missed:
        print(f"missed: {one['what']}, {one['ours']:.2f} {one['unit']}, target {one['target']}", file=sys.stderr)
    sys.exit(1 if missed else 0)


main()
