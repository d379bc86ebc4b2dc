"""dspy.LM with its disk cache on, asked concurrently."""
import asyncio
import json
import os
import sys

rows, url, concurrency, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.environ["DSPY_CACHEDIR"] = out + ".cache"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy  # noqa: E402


async def main():
    lm = dspy.LM("openai/mock", api_base=url, api_key="none", max_tokens=256, temperature=0, num_retries=8)
    free = asyncio.Semaphore(concurrency)
    with open(rows) as lines, open(out, "w") as kept:

        async def ask(question):
            async with free:
                reply = await lm.acall(messages=[{"role": "user", "content": question}])
            kept.write(json.dumps({"question": question, "reply": str(reply[0])}) + "\n")

        await asyncio.gather(*(ask(json.loads(line)["q"]) for line in lines))


asyncio.run(main())
