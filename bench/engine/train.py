"""Fine-tuning: `divvy train` as a user runs it, against PyTorch on the very same token ids."""
import json
import pathlib
import shutil
import statistics
import tempfile

import tools
from common import row

HERE = pathlib.Path(__file__).resolve().parent
# As peers/torch_train.py knows them.
VARIANTS = ["autocast", "bf16", "compile", "trl"]
BATCH = 16
TARGETS = {"lora": "≥ 3.5 × the best of PyTorch", "full": "≥ 2.5 × the best of PyTorch"}
NAMES = {"lora": "LoRA", "full": "full fine-tuning"}
MEMORY = {"autocast": "≤ 1/3", "compile": "≤ 1/2"}
RECIPE = """name = "bench"
seed = 1
[data]
leaks = "warn"
train = {{ {rows} }}
[models.base]
source = "path:{source}"
[collect]
teacher = "recorded"
[students.s]
base = "base"
target = "SD-T"
method = "{method}"
{more}batch_rows = {batch}
epochs = 1
learning_rate = {rate}
"""


def recipe(given, source, method, count):
    rows = f'dataset = "gsm8k", files = ["gsm8k/train_socratic.jsonl"], rows = {count}' if given.data else f'dataset = "synth", rows = {count}'
    more = "rank = 16\n" if method == "lora" else ""
    return RECIPE.format(rows=rows, source=source, method=method, more=more, batch=BATCH, rate=1e-4 if method == "lora" else 1e-5)


def divvy(given, folder, *words):
    data = ["--data", given.data.resolve()] if given.data else []
    command = [tools.DIVVY, *words, "recipe.toml", "--store", folder / "store", *data]
    return tools.run(command, given.threads, cwd=folder)


def prepare(given, source, folder):
    """The rows as token ids and as messages, and the base as transformers loads it."""
    count = BATCH * given.steps
    if (folder / "done").exists() and (folder / "done").read_text() == f"{count} {given.data}":
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe(given, source, "lora", BATCH))
    divvy(given, folder, "train")
    divvy(given, folder, "export", "--student", "s", "--format", "base", "--out", folder / "base")
    (folder / "recipe.toml").write_text(recipe(given, source, "lora", count))
    divvy(given, folder, "collect")
    divvy(given, folder, "export", "--student", "s", "--rows", "ids", "--out", folder / "ids.jsonl")
    divvy(given, folder, "export", "--student", "s", "--rows", "prompt-completion", "--out", folder / "messages.jsonl")
    (folder / "done").write_text(f"{count} {given.data}")


def ours(given, source, method):
    """Tokens a second of all steps but the first, by the training log; peak MB of the process."""
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "recipe.toml").write_text(recipe(given, source, method, BATCH * given.steps))
        _, _, peak = divvy(given, scratch, "train")
        log = next((scratch / "store").glob("students/*/log/metrics.jsonl")).read_text().splitlines()
    return speed([(step["tokens"], step["tokens"] / step["tokens_per_second"]) for step in map(json.loads, log)]), peak


def theirs(given, folder, method, variant):
    rows = folder / ("messages.jsonl" if variant == "trl" else "ids.jsonl")
    words = [tools.torch(given), HERE / "peers/torch_train.py", folder / "base", rows, method, variant, given.steps, BATCH, given.threads]
    result, peak = tools.told(words, given.threads, cwd=folder)
    return speed(list(zip(result["tokens"], result["seconds"]))), peak


def speed(steps):
    """The first step compiles, allocates, and reads what is not in memory yet."""
    steps = steps[1:] or steps
    return sum(tokens for tokens, _ in steps) / sum(seconds for _, seconds in steps)


def in_turns(given, source, folder, method, failed):
    """(tokens a second, peak MB) of everybody: medians, and the highest peak. divvy goes first and last."""
    runs = {"divvy": lambda: ours(given, source, method)}
    runs |= {name: lambda name=name: theirs(given, folder, method, name) for name in given.variants.split(",")}
    seen = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name in [*runs, "divvy"]:
            try:
                seen[name].append(runs[name]())
                print(f"{method} {name:<9} {seen[name][-1][0]:8.0f} tokens/s {seen[name][-1][1]:8.0f} MB", flush=True)
            except tools.Failed as error:
                failed[f"{method} {name}"] = str(error)
    return {name: (statistics.median([run[0] for run in runs]), max(run[1] for run in runs)) for name, runs in seen.items() if runs}


def measure(given):
    rows, failed = [], {}
    for name in given.models.split(","):
        folder, source = given.folder / f"train-{name}", tools.model(name)
        prepare(given, source, folder)
        for method in given.methods.split(","):
            seen = in_turns(given, source, folder, method, failed)
            own = seen.pop("divvy")
            for peer, (rate, peak) in sorted(seen.items(), key=lambda pair: -pair[1][0]):
                what = f"{NAMES[method]}, {name}"
                row(rows, what, "tokens/s", own[0], rate, f"torch {peer}", TARGETS[method], "higher")
                row(rows, f"{what}, peak memory", "MB", own[1], peak, f"torch {peer}", MEMORY.get(peer), "lower")
    data = "GSM8K, Socratic training rows" if given.data else "generated rows (synth)"
    return rows, {"data": f"{data}, {BATCH} a step, {given.steps} steps", "not_run": failed}
