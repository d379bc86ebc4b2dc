"""The official Python client: pip install openai.

    python openai_python.py http://127.0.0.1:8787/v1 two-stage/sd-t/qwen-1.5b
"""

import sys

import openai

base_url, model = sys.argv[1:3]
client = openai.OpenAI(base_url=base_url, api_key="not-needed", max_retries=0)
question = [{"role": "user", "content": "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?"}]

print("models:", ", ".join(entry.id for entry in client.models.list()))

reply = client.chat.completions.create(model=model, messages=question)
message = reply.choices[0].message
print("steps:", message.reasoning_content)
print("answer:", message.content)
print("tokens:", reply.usage.completion_tokens, "of which on the way:", reply.usage.completion_tokens_details.reasoning_tokens)
for step in reply.divvy["subquestions"]:
    print(f"  {step['number']}. {step['text']} -> {step['answer']}")
assert reply.choices[0].finish_reason in ("stop", "length") and message.content

# The same, as it is written. What is divvy's own is in `divvy`, which other servers do not have.
text, events, usage = "", [], None
stream = client.chat.completions.create(
    model=model, messages=question, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if getattr(chunk, "divvy", None) and chunk.divvy.get("event"):
        events.append(chunk.divvy)
    if chunk.choices and chunk.choices[0].delta.content:
        text += chunk.choices[0].delta.content
    usage = chunk.usage or usage
print("streamed:", text, f"({len(events)} steps told, {usage.total_tokens} tokens)")
assert text and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

# A passage that the question is about.
reply = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Who is older?"}],
    extra_body={"divvy": {"premise": "Ann was born in 1990, Bo in 1985."}},
)
assert reply.choices[0].message.content

try:
    client.chat.completions.create(model="nobody", messages=question)
    raise AssertionError("a model that is not there answered")
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
print("ok")
