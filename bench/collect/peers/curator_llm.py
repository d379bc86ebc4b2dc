"""curator.LLM with its cache on."""
import importlib.util
import json
import os
import pathlib
import sys

rows, url, concurrency, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.environ.update(
    CURATOR_CACHE_DIR=out + ".cache", TELEMETRY_ENABLED="false", CURATOR_DISABLE_RICH_DISPLAY="1",
    LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="none", HOSTED_CURATOR_VIEWER="0",
)
# Its tokenizer is fetched from the network on import, but lies in the wheel of its own dependency.
litellm = pathlib.Path(importlib.util.find_spec("litellm").origin).parent
os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(litellm / "litellm_core_utils/tokenizers"))

from bespokelabs import curator  # noqa: E402

with open(rows) as lines:
    questions = [json.loads(line)["q"] for line in lines]
llm = curator.LLM(
    model_name="mock",
    backend="openai",
    backend_params={
        "base_url": url, "api_key": "none", "max_concurrent_requests": concurrency, "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000, "max_retries": 8,
    },
    generation_params={"max_tokens": 256, "temperature": 0},
)
answered = llm(questions)
data = getattr(answered, "dataset", answered)
with open(out, "w") as kept:
    for row in data:
        kept.write(json.dumps(row, default=str) + "\n")
