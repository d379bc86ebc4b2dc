"""How long a report over 200,000 graded rows takes: see README.md."""
import os
import pathlib
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
    common.finish(FOLDER, rows, "--dry" not in sys.argv)


main()
