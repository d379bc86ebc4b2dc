"""Matrix products against oneDNN's, against what the processor could issue, and their share of a training step."""
import pathlib
import re
import shutil
import subprocess
import tempfile

import tools
import train
from common import median, row

HERE = pathlib.Path(__file__).resolve().parent
# (m, n, k): what training multiplies by, and what 32 sequences decode with.
SHAPES = {
    "SmolLM2 qkv": (1024, 960, 576),
    "SmolLM2 gate and up": (1024, 3072, 576),
    "SmolLM2 down": (1024, 576, 1536),
    "SmolLM2 head": (256, 49152, 576),
    "Qwen 0.5B gate and up": (1024, 9728, 896),
    "Qwen 0.5B down": (1024, 896, 4864),
    "Qwen 1.5B gate and up, 32 rows": (32, 17920, 1536),
}
# Functions by what they do, in a profile; the first that fits counts.
KINDS = {
    "products: base, LoRA, attention": r"avx512::x86|amx::|matmul::|tile::|products::",
    "rounding and packing for these": r"rounding::|operands::|packed::",
    "attention outside of products": r"attention::",
    "norms, gates, rotations, loss": r"norm::|gate::|rope::|loss::",
    "optimiser": r"optimiser::",
    "the system: pages, threads, copies": r"^\[k\]|mem(cpy|move|set)|yield|rayon|alloc|mi_",
}
FRAME = re.compile(r"^\s*([\d.]+)%\s+(.*)$")


def flat(given):
    """GFLOP/s of every shape, divvy's and torch's in turns, and the processor's issue rate."""
    shapes = [",".join(map(str, shape)) for shape in SHAPES.values()]
    repeats = 2 if given.quick else 10
    ours, theirs, issue = [], [], []
    for _ in range(given.rounds):
        first, *rest = tools.run([tools.GEMM, repeats, *shapes], given.threads)[0].split()
        issue.append(float(first))
        ours.append([float(rate) for rate in rest])
        words = [tools.torch(given), HERE / "peers/torch_gemm.py", given.threads, repeats, *shapes]
        theirs.append(tools.told(words, given.threads)[0])
    return [median(rates) for rates in zip(*ours)], [median(rates) for rates in zip(*theirs)], median(issue)


def profile(given):
    """Shares of a LoRA training run's samples by what was being done, in %; None without perf."""
    if shutil.which("perf") is None:
        return None
    source = tools.model("smollm2-135m")
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "recipe.toml").write_text(train.recipe(given, source, "lora", train.BATCH * max(given.steps, 4)))
        data = ["--data", given.data.resolve()] if given.data else []
        perf = ["perf", "record", "-q", "-F", "499", "-o", scratch / "perf.data"]
        tools.run([*perf, tools.DIVVY, "train", "recipe.toml", "--store", scratch / "store", *data], given.threads, cwd=scratch)
        words = ["perf", "report", "-i", scratch / "perf.data", "--no-children", "--stdio", "-g", "none", "-F", "overhead,symbol"]
        report = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    shares, rest = dict.fromkeys(KINDS, 0.0), {}
    for frame in filter(None, map(FRAME.match, report.splitlines())):
        percent, symbol = float(frame[1]), frame[2].strip()
        kind = next((kind for kind, names in KINDS.items() if re.search(names, symbol)), None)
        if kind:
            shares[kind] += percent
        else:
            rest[symbol[:80]] = percent
    shares["everything else"] = sum(rest.values())
    largest = dict(sorted(rest.items(), key=lambda pair: -pair[1])[:5])
    return {"shares, %": {kind: round(share, 1) for kind, share in shares.items()}, "largest of everything else": largest}


def measure(given):
    rows = []
    ours, theirs, issue = flat(given)
    for (what, (m, n, k)), own, other in zip(SHAPES.items(), ours, theirs):
        row(rows, f"product in bf16, {what}, {m} × {n} × {k}", "GFLOP/s", own, other, "oneDNN (torch.mm)", "≥ 1.15", "higher")
    if issue:
        what = "median of these, against the issue rate of bf16 products (AMX, or else AVX-512)"
        row(rows, what, "GFLOP/s", median(ours), issue, "issue rate", "≥ 0.55", "higher")
    seen = profile(given)
    if seen:
        outside = 100 - seen["shares, %"][next(iter(KINDS))]
        row(rows, "share of a LoRA training run outside products, by perf", "%", outside, None, None, "≤ 40", "lower")
    return rows, {"issue rate, GFLOP/s": issue, "profile": seen}
