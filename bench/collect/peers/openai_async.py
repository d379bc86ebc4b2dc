"""The plain client with a semaphore and a JSONL file, as most people begin: nothing is kept by request, nothing resumes."""
import asyncio
import json
import sys

from openai import AsyncOpenAI

rows, url, concurrency, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


async def main():
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=8, timeout=120)
    free = asyncio.Semaphore(concurrency)
    with open(rows) as lines, open(out, "w") as kept:

        async def ask(question):
            async with free:
                reply = await client.chat.completions.create(
                    model="mock", messages=[{"role": "user", "content": question}], max_tokens=256, temperature=0
                )
            kept.write(json.dumps({"question": question, "reply": reply.choices[0].message.content}) + "\n")

        await asyncio.gather(*(ask(json.loads(line)["q"]) for line in lines))


asyncio.run(main())
