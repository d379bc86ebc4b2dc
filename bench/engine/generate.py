"""Generation: the engine against llama.cpp's own benchmarks on the same quantised files, and against itself with a prefix cached."""
import json

import tools
from common import median, row

STUDENT, SOLVER = "smollm2-135m", "qwen2.5-coder-1.5b"
# Prompts of one instruction and a question each, and replies, in tokens.
INSTRUCTION, QUESTION, REPLY = 128, 64, 64
PROFILES = {"exact": "exact", "int8": "fast", "stored": "stored"}


class Llama:
    def __init__(self, given, model):
        self.given, self.model, self.programs = given, model, tools.llama(given)

    def alone(self, prompt, new):
        """Tokens a second of a prompt, and of a reply, one sequence."""
        words = [self.programs / "llama-bench", "-m", self.model, "-t", self.given.threads, "-p", prompt, "-n", new, "-r", 2, "-o", "json"]
        runs = json.loads(tools.run(words, self.given.threads)[0])
        return tuple(next(run["avg_ts"] for run in runs if run[key] > 0) for key in ("n_prompt", "n_gen"))

    def batches(self, prompt, new, shared):
        """Of each number of sequences at once: seconds of prompts and of replies."""
        sizes = [8, 32] if self.given.quick else [1, 8, 16, 32]
        context = (prompt + new) * max(sizes)
        words = [self.programs / "llama-batched-bench", "-m", self.model, "-t", self.given.threads, "-c", context, "-b", 2048, "-ub", 512]
        words += ["-npp", prompt, "-ntg", new, "-npl", ",".join(map(str, sizes)), "--output-format", "jsonl"]
        printed = tools.run(words + ["-pps"] * shared, self.given.threads)[0]
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        return {line["pl"]: (line["t_pp"], line["t_tg"]) for line in lines}


class Ours:
    def __init__(self, given, model, numerics, repeats=1):
        self.given, self.words, self.repeats = given, [model, numerics], repeats

    def generate(self, batch, shared, own, new):
        """Seconds until the first token of all, and until the last."""
        words = [tools.BENCH, "generate", *self.words, batch, shared, own, new, self.repeats]
        told = tools.told(words, self.given.threads)[0]
        return median(told["first"]), median(told["all"])

    def again(self, shared, own):
        told = tools.told([tools.BENCH, "again", *self.words, shared, own, self.repeats], self.given.threads)[0]
        return median(told["cold"]), median(told["cached"])


def medians(turns):
    return tuple(median(values) for values in zip(*turns))


def student(given, rows):
    model = tools.model(STUDENT)
    peer = Llama(given, model)
    turns = {name: {"batch": [], "alone": [], "prompt": [], "again": []} for name in PROFILES}
    llama_alone, llama_batches = [], []
    for _ in range(given.rounds):
        llama_alone.append(peer.alone(512, 128))
        llama_batches.append(peer.batches(INSTRUCTION + QUESTION, REPLY, shared=True))
        for numerics in PROFILES:
            ours, seen = Ours(given, model, numerics, 1 if given.quick else 3), turns[numerics]
            seen["batch"].append(ours.generate(32, INSTRUCTION, QUESTION, REPLY))
            seen["alone"].append(ours.generate(1, 0, 16, 128))
            seen["prompt"].append(ours.generate(1, 0, 512, 2))
            seen["again"].append(ours.again(512, 32))
    decode = {size: median([size * REPLY / turn[size][1] for turn in llama_batches]) for size in llama_batches[0]}
    best = max(decode, key=decode.get)
    prompt, alone = medians(llama_alone)
    for numerics, profile in PROFILES.items():
        seen, what = turns[numerics], f"SmolLM2-135M Q4_1, {profile}"
        first, all_of_it = medians(seen["batch"])
        row(rows, f"decoding 32 prompts with a shared instruction, {what}", "tokens/s", 32 * (REPLY - 1) / (all_of_it - first), decode[best],
            f"llama.cpp, {best} at once", "≥ 2.5", "higher")
        first, all_of_it = medians(seen["alone"])
        row(rows, f"decoding, one sequence, {what}", "tokens/s", 127 / (all_of_it - first), alone, "llama.cpp", "≥ 1.1", "higher")
        first, _ = medians(seen["prompt"])
        row(rows, f"prefill of 512 tokens, {what}", "tokens/s", 512 / first, prompt, "llama.cpp", "≥ 1.2", "higher")
        cold, cached = medians(seen["again"])
        row(rows, f"time to first token, 512 of 544 prompt tokens cached, {what}", "ms", 1000 * cached, 1000 * cold, "nothing cached", "≤ 0.2", "lower")
    return {"llama.cpp SmolLM2 decoding by batch, tokens/s": decode}


def solver(given, rows):
    """32 questions from start to end. llama.cpp is not charged for the instruction, which its slots would keep; divvy is."""
    model = tools.model(SOLVER)
    peer, turns, llama_turns = Llama(given, model), {name: [] for name in PROFILES}, []
    alone, llama_alone = {name: [] for name in PROFILES}, []
    for _ in range(given.rounds):
        llama_alone.append(peer.alone(16, REPLY))
        llama_turns.append(peer.batches(QUESTION, REPLY, shared=False))
        for numerics in PROFILES:
            turns[numerics].append(Ours(given, model, numerics).generate(32, INSTRUCTION, QUESTION, REPLY))
            alone[numerics].append(Ours(given, model, numerics).generate(1, 0, 16, REPLY))
    tokens = 32 * (INSTRUCTION + QUESTION + REPLY)
    rate = {size: tokens / median([32 / size * sum(turn[size]) for turn in llama_turns]) for size in llama_turns[0]}
    best = max(rate, key=rate.get)
    for numerics, profile in PROFILES.items():
        _, all_of_it = medians(turns[numerics])
        row(rows, f"32 questions at once, Qwen2.5-Coder-1.5B Q4_K_M, {profile}", "tokens/s", tokens / all_of_it, rate[best],
            f"llama.cpp, {best} at once", "≥ 2", "higher")
        first, all_of_it = medians(alone[numerics])
        row(rows, f"decoding, one sequence, Qwen2.5-Coder-1.5B Q4_K_M, {profile}", "tokens/s", (REPLY - 1) / (all_of_it - first), medians(llama_alone)[1],
            "llama.cpp", None, "higher")
    return {"llama.cpp 1.5B by batch, tokens/s in all": rate}


def data():
    return f"instruction {INSTRUCTION}, question {QUESTION}, reply {REPLY} tokens"


def measure(given):
    rows = []
    return rows, {"data": data()} | student(given, rows)


def measure_solver(given):
    rows = []
    return rows, {"data": data()} | solver(given, rows)
