"""What the benchmarks share: peers in environments of their own, the machine's description, results.json."""
import datetime
import json
import os
import platform
import subprocess
import sys


def median(values):
    return sorted(values)[len(values) // 2]


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def install_into(venv, packages):
    """A virtual environment with these packages, made once."""
    if (venv / "done").exists():
        return
    print(f"installing {packages[0]} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "-q", *packages], check=True)
    (venv / "done").touch()


def row(rows, what, unit, ours, peer, peer_name, target, better):
    """One line of results.json; `ratio` is ours / peer."""
    ratio = None if not peer else ours / peer
    rows.append({"what": what, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio,
                 "target": target, "better": better})


def judge(rows):
    """Writes beside each target "< N" whether it was met; the rows that missed theirs."""
    for one in rows:
        if one["target"]:
            one["met"] = one["ours"] < float(one["target"].removeprefix("< "))
    return [one for one in rows if one.get("met") is False]


def finish(folder, rows, write, **more):
    report = {"date": datetime.date.today().isoformat(), "machine": machine(), **more, "rows": rows}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if write:
        (folder / "results.json").write_text(text + "\n")
