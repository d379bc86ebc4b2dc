"""What a token costs as the work grows: tokens a second and memory by sequence length, batch, model and threads. divvy alone."""
import tools
from common import median, row

TOKENS = 4096


def one(given, model, method, rows, tokens, threads=None):
    steps = 2 if given.quick else 3
    words = [tools.BENCH, "train", tools.model(model), method, rows, tokens, steps]
    result, peak = tools.told(words, threads or given.threads)
    return median(result["tokens_per_second"][1:]), peak


def measure(given):
    rows, failed = [], {}

    def show(what, *work):
        try:
            rate, peak = one(given, *work)
        except tools.Failed as error:
            failed[what] = str(error)
            return
        print(f"{what}: {rate:.0f} tokens/s, {peak:.0f} MB", flush=True)
        row(rows, what, "tokens/s", rate, None, None, None, "higher")
        row(rows, f"{what}, peak memory", "MB", peak, None, None, None, "lower")

    small = "smollm2-135m"
    lengths = [128, 1024] if given.quick else [128, 256, 512, 1024, 2048, 4096]
    for length in lengths:
        show(f"LoRA, {small}, rows of {length} tokens, {TOKENS} a step", small, "lora", TOKENS // length, length)
    for batch in [] if given.quick else [1, 4, 64]:
        show(f"LoRA, {small}, {batch} rows of 256 tokens a step", small, "lora", batch, 256)
    for model in [] if given.quick else ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"]:
        show(f"LoRA, {model}, 4 rows of 256 tokens a step", model, "lora", 4, 256)
    show(f"LoRA, {small}, rows of 256 tokens, one thread", small, "lora", 4, 256, 1)
    return rows, {"not_run": failed}
