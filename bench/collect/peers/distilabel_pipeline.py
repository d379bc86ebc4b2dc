"""A distilabel pipeline of one TextGeneration step."""
import json
import sys

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

rows, url, concurrency, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

if __name__ == "__main__":
    with open(rows) as lines:
        data = [{"instruction": json.loads(line)["q"]} for line in lines]
    with Pipeline(name="bench", cache_dir=out + ".cache") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=concurrency)
        llm = OpenAILLM(base_url=url, api_key="none", model="mock", generation_kwargs={"max_new_tokens": 256}, max_retries=8)
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    distiset = pipeline.run(use_cache=True)
    answered = [row for row in distiset["default"]["train"] if row["generation"]]
    with open(out, "w") as kept:
        for row in answered:
            kept.write(json.dumps({"question": row["instruction"], "reply": row["generation"]}) + "\n")
