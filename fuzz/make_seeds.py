#!/usr/bin/env python3
"""Writes fuzz/seeds: small inputs of every kind that a fuzz target reads, for it to begin with.

    python3 fuzz/make_seeds.py
"""
import json
import pathlib
import struct

SEEDS = pathlib.Path(__file__).resolve().parent / "seeds"
USER = [{"role": "user", "content": "Ann has 3 pens. How many?"}]

REQUESTS = {
    "plain": {"model": "m", "messages": USER},
    "all": {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5, "top_p": 0.9, "seed": -1,
            "stop": ["\n", "x"], "n": 1, "max_completion_tokens": 9, "user": "u", "divvy": {"premise": "A passage."},
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "assistant", "content": None},
                         {"role": "user", "name": "a", "content": [{"type": "text", "text": "How many?"}]}]},
    "completion": {"model": "m", "prompt": ["Ann has"], "max_tokens": 4, "stream": False},
    "wrong": {"model": 3, "messages": [{"role": "tool", "content": [{"type": "image_url"}]}], "n": 2},
}

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}


def chunk(delta, finish=None, **more):
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}) + "\n\n"


REPLIES = {
    "whole": json.dumps({"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": USAGE}),
    "stream": chunk({"role": "assistant", "content": ""}) + chunk({"content": "4é"}) + ": still here\r\n\r\n"
              + chunk({"content": "2"}, "length") + "data: " + json.dumps({"choices": [], "usage": USAGE}) + "\n\ndata: [DONE]\n\n",
    "thoughts": chunk({"reasoning_content": "hm"}) + chunk({"refusal": "no"}, "content_filter") + "data: [DONE]\n\n",
    "error": json.dumps({"error": {"message": "no", "code": 429}}),
    "late-error": chunk({"content": "4"}) + 'event: error\ndata: {"error": {"code": 99999999999}}\n\n',
}

def row(status, body):
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": "0f" * 32, "response": response, "error": None})


ROWS = {
    "answered": row(200, json.loads(REPLIES["whole"])),
    "refused": row(429, {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}),
    "expired": json.dumps({"custom_id": "0f" * 32, "response": None, "error": {"code": "batch_expired", "message": "Too late."}}),
}
LIMITS = {
    "openai": "x-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 1h6m0.5s\n"
              "x-ratelimit-limit-tokens: 150000\nx-ratelimit-reset-tokens: 120ms\nretry-after-ms: 250\n",
    "plain": "date: Thu, 27 Nov 2025 12:00:00 GMT\nratelimit-limit: 100\nratelimit-remaining: 7\nratelimit-reset: 1764244860\n"
             "retry-after: Thu, 27 Nov 2025 12:01:00 GMT\n",
}

DECOMPOSITIONS = {
    "numbered": "1. How many pens does Ann buy?\n2. How many has she then?\n",
    "chatty": "Sure! Here are they:\n\n- **Subquestion 1:** How many? 6\n- Subquestion 2: And then?\n\nI hope this helps.",
    "structured": '{"subquestions": ["How many pens does Ann buy?", "And then, é?"]}',
    "cut": '{"subquestions": ["How many pens does Ann buy?", "And th',
    "json": '```json\n{"subquestions": [{"question": "How many?"}, "And then?"]}\n```',
    "none": "No decomposition",
    "loop": "1. a b a b a b a b a b a b?\n2. a b a b?\n3. a b a b?\n1. Wie viele, é?",
}

RECIPE = """name = "r"
seed = 7
[data]
dev_rows = 5
train = { dataset = "rows", files = ["a.jsonl"], columns = { question = "q", answer = "a" } }
test = { dataset = "synth", rows = 4 }
[models.big]
source = "http://127.0.0.1:1/v1"
model = "big"
price = { input = "0.15", output = "0.60" }
[[models.big.endpoints]]
url = "http://127.0.0.1:2/v1"
[models.small]
source = "path:model.gguf"
[collect]
teacher = "big"
[screen]
solver = "big"
rule = "all"
[students.s]
base = "small"
target = "SD-R"
[evaluate]
solvers = ["big", "small"]
strategies = ["direct", "cot", "two-stage", "sequential", "self-ask"]
decomposers = ["student:s", "teacher"]
[serve]
arms = ["cot/big"]
fallback = "fail"
[budget]
dollars = "1.5"
"""
RECIPES = {"full": RECIPE, "small": 'name = "x"\n[data.train]\ndataset = "synth"\n[collect]\nteacher = "recorded"\n'}

HIDDEN, FFN = 4, 8
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
# What would be 8 TB, from a template and from a normaliser.
DOUBLING = "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40
LENGTHENING = {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 40}


def tensors(vocab, names):
    """Name and shape of every tensor of a model of one layer."""
    embed, norm, part = names
    yield embed, [vocab, HIDDEN]
    yield norm, [HIDDEN]
    for name, shape in part.items():
        yield name, shape


def floats(shape):
    count = 1
    for size in shape:
        count *= size
    return struct.pack(f"<{count}f", *[(at % 7 - 3) / 8 for at in range(count)])


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key, value):
    kinds = {str: (8, text), int: (4, lambda v: struct.pack("<I", v)), float: (6, lambda v: struct.pack("<f", v))}
    if isinstance(value, list):
        kind, pack = kinds[type(value[0])]
        return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + b"".join(map(pack, value))
    kind, pack = kinds[type(value)]
    return text(key) + struct.pack("<I", kind) + pack(value)


def byte_level():
    letters = [chr(at) for at in range(33, 127)] + ["Ġ", "Ċ"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "th"]
    return tokens, {"model": "gpt2", "pre": "smollm", "token_type": [3] * 3 + [1] * (len(tokens) - 3), "merges": ["t h"]}


def sentencepiece():
    pieces = ["▁", "t", "h", "e", "th", "▁the"]
    tokens = ["<unk>", "<s>", "</s>", "\n", *[f"<0x{at:02X}>" for at in range(256)], *pieces]
    types = [2, 3, 3, 4] + [6] * 256 + [1] * len(pieces)
    return tokens, {"model": "llama", "token_type": types, "scores": [-float(at) for at in range(len(tokens))], "bos_token_id": 1}


def gguf(tokens, tokenizer, template=TEMPLATE):
    shape = {"block_count": 1, "embedding_length": HIDDEN, "attention.head_count": 2, "attention.head_count_kv": 1,
             "feed_forward_length": FFN, "context_length": 64, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4}
    metadata = {"general.architecture": "llama", **{f"llama.{key}": value for key, value in shape.items()},
                "tokenizer.ggml.tokens": tokens, **{f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()},
                "tokenizer.ggml.eos_token_id": 2, "tokenizer.chat_template": template}
    layer = {"attn_norm": [HIDDEN], "ffn_norm": [HIDDEN], "attn_q": [4, HIDDEN], "attn_k": [2, HIDDEN], "attn_v": [2, HIDDEN],
             "attn_output": [HIDDEN, 4], "ffn_gate": [FFN, HIDDEN], "ffn_up": [FFN, HIDDEN], "ffn_down": [HIDDEN, FFN]}
    names = ("token_embd.weight", "output_norm.weight", {f"blk.0.{name}.weight": shape for name, shape in layer.items()})
    all_tensors = list(tensors(len(tokens), names))
    out = b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(metadata))
    out += b"".join(entry(key, value) for key, value in metadata.items())
    data = b""
    for name, dims in all_tensors:
        data += b"\0" * (-len(data) % 32)
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", size) for size in reversed(dims))
        out += struct.pack("<IQ", 0, len(data))
        data += floats(dims)
    return out + b"\0" * (-len(out) % 32) + data


def container(tensors, metadata=None):
    """The tensors, by name and shape, in the container of safetensors."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, shape in tensors:
        values = floats(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def tokenizer(normalizer=None):
    """Byte-level, as GPT-2's, with one merge; a zero byte; what stands beside it. The model of the target has 259 embeddings."""
    letters, spare = [], 0x100
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte
        letters.append(chr(byte if printable else spare))
        spare += not printable
    vocab = {letter: at for at, letter in enumerate([*letters, "th"])}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 257 + at, "content": text, **special} for at, text in enumerate(["<|im_start|>", "<|im_end|>"])]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "byte_fallback": False, "vocab": vocab, "merges": [["t", "h"]]}
    whole = {"version": "1.0", "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": level, "decoder": level, "model": model}
    beside = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    return json.dumps(whole).encode() + b"\0" + json.dumps(beside).encode()


def shards():
    """Where each weight of the target's model lies."""
    parts = [*[f"self_attn.{part}_proj" for part in "qkvo"], *[f"mlp.{part}_proj" for part in ("gate", "up", "down")]]
    parts += ["input_layernorm", "post_attention_layernorm"]
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(2) for part in parts]
    names += ["model.embed_tokens.weight", "model.norm.weight"]
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "part-1.safetensors")})


def adapter():
    """LoRA on two of the projections of the target's model, as PEFT writes it, without a manifest of ours."""
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "use_rslora": True, "bias": "none",
              "target_modules": ["q_proj", "down_proj"], "modules_to_save": None}
    shapes = {"self_attn.q_proj": (32, 32), "mlp.down_proj": (64, 32)}
    key = "base_model.model.model.layers.{}.{}.lora_{}.weight"
    factors = [entry for layer in range(2) for part, (inputs, outputs) in shapes.items()
               for entry in [(key.format(layer, part, "A"), [2, inputs]), (key.format(layer, part, "B"), [outputs, 2])]]
    return json.dumps(config).encode() + b"\0\0" + container(factors)


def checkpoint():
    """Of the run that the target has, after two steps and a look."""
    step = {"epoch": 0, "loss": 1.5, "learning_rate": 1e-4, "grad_norm": 0.5, "tokens": 9, "target_tokens": 4, "correct": 1,
            "tokens_per_second": 100.0, "dev_loss": None}
    log = [step | {"step": 1}, step | {"step": 2, "dev_loss": 2.5, "dev_quality": 0.5}]
    return container([(f"{kind}.w", [2, 3]) for kind in ("value", "m", "v")], {"fingerprint": "run", "log": json.dumps(log)})


def safetensors():
    """As the target reads it: config.json, a zero byte, the weights. The tokenizer beside them has 259 tokens."""
    config = {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "head_dim": 2, "vocab_size": 259, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
              "rope_theta": 1e4, "tie_word_embeddings": True}
    attention = {"q_proj": [4, HIDDEN], "k_proj": [2, HIDDEN], "v_proj": [2, HIDDEN], "o_proj": [HIDDEN, 4]}
    mlp = {"gate_proj": [FFN, HIDDEN], "up_proj": [FFN, HIDDEN], "down_proj": [HIDDEN, FFN]}
    at = "model.layers.0"
    part = {f"{at}.input_layernorm.weight": [HIDDEN], f"{at}.post_attention_layernorm.weight": [HIDDEN],
            **{f"{at}.self_attn.{name}.weight": shape for name, shape in attention.items()},
            **{f"{at}.mlp.{name}.weight": shape for name, shape in mlp.items()}}
    return json.dumps(config).encode() + b"\0" + container(tensors(259, ("model.embed_tokens.weight", "model.norm.weight", part)))


def write(target, name, value):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(value if isinstance(value, bytes) else value.encode())


for name, body in REQUESTS.items():
    write("request", name, json.dumps(body))
for name, body in REPLIES.items():
    write("reply", name, b"\x05" + body.encode())
for name, body in ROWS.items():
    write("batch", name, body)
for name, body in LIMITS.items():
    write("limits", name, body)
for name, body in DECOMPOSITIONS.items():
    write("decomposition", name, body)
for name, body in RECIPES.items():
    write("recipe", name, body)
write("gguf", "tiny", gguf(*byte_level()))
write("gguf", "pieces", gguf(*sentencepiece()))
write("gguf", "doubling", gguf(*byte_level(), DOUBLING))
write("safetensors", "tiny", safetensors())
write("tokenizer", "bytes", tokenizer())
write("tokenizer", "lengthening", tokenizer(LENGTHENING))
write("shards", "whole", shards())
write("adapter", "peft", adapter())
write("checkpoint", "looked", checkpoint())
