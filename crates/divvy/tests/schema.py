"""Every form of reply against the types of OpenAI's own Python package: schema.py BASE_URL ARM PLAIN_LOCAL_MODEL.

Validation is strict (no text where a number belongs), what the types require must be there, and what they do not know must
be one of the fields that docs/serving.md names. The bytes are read without the package's client, which forgives a lot.
"""

import json
import sys
import urllib.error
import urllib.request

from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from pydantic import BaseModel

base_url, arm, local = sys.argv[1:4]
OWN = {"divvy", "reasoning_content", "reasoning"}
QUESTION = [{"role": "user", "content": "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?"}]
# The types have defaults for these; OpenAI's servers always send them.
ALWAYS = {
    "ChatCompletion": {"usage"},
    "Choice": {"logprobs"},
    "ChatCompletionMessage": {"refusal"},
    "ErrorObject": {"code", "message", "param", "type"},
}


def walk(value):
    """Every object in a validated reply."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from walk(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def conforms(kind, text):
    value = kind.model_validate_json(text, strict=True)
    for part in walk(value):
        name = type(part).__name__
        unknown = set(part.model_extra or {}) - OWN
        assert not unknown, f"{name}: {unknown} are in no schema: {text}"
        # Choices of a stream carry a delta: only what is said is there.
        if kind is not ChatCompletionChunk:
            missing = ALWAYS.get(name, set()) - part.model_fields_set
            assert not missing, f"{name}: {missing} are missing: {text}"
    return value


def send(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base_url + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def done(path, body=None):
    status, text = send(path, body)
    assert status == 200, (status, text)
    return text


def events(path, body):
    lines = done(path, body | {"stream": True, "stream_options": {"include_usage": True}}).split("\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert all(not line or line.startswith(("data: ", ":")) for line in lines), "named events break clients"
    assert data.pop() == "[DONE]"
    return data


def chat(model):
    return {"model": model, "messages": QUESTION, "max_completion_tokens": 64}


def streams(model):
    chunks = [conforms(ChatCompletionChunk, text) for text in events("/chat/completions", chat(model))]
    *pieces, last = chunks
    assert len({chunk.id for chunk in chunks}) == 1 and last.choices == [] and last.usage.total_tokens > 0
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in pieces)
    assert [chunk.choices[0].finish_reason for chunk in pieces][-1] in ("stop", "length")
    assert pieces[0].choices[0].delta.role == "assistant"


def completes():
    body = {"model": local, "prompt": "Ann has 3", "max_tokens": 4}
    whole = conforms(Completion, done("/completions", body))
    assert whole.object == "text_completion" and whole.usage.completion_tokens <= 4
    # While a stream goes on, OpenAI's servers send null here, which the package's type does not know.
    *pieces, last = [json.loads(text) for text in events("/completions", body)]
    assert last["choices"] == [] and pieces[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    for piece in pieces[:-1]:
        assert piece["choices"][0]["finish_reason"] is None
        piece["choices"][0]["finish_reason"] = "stop"
    for piece in [*pieces, last]:
        conforms(Completion, json.dumps(piece))


def lists():
    models = json.loads(done("/models"))
    assert models["object"] == "list" and set(models) == {"object", "data"}
    for entry in models["data"]:
        conforms(Model, json.dumps(entry))
        conforms(Model, done(f"/models/{entry['id']}"))


def refuses(status, path, body=None):
    answered, text = send(path, body)
    reply = json.loads(text)
    assert answered == status and set(reply) == {"error"}, (answered, text)
    conforms(ErrorObject, json.dumps(reply["error"]))


for model in (arm, local):
    reply = conforms(ChatCompletion, done("/chat/completions", chat(model)))
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    streams(model)
completes()
lists()
refuses(404, "/chat/completions", chat("nobody"))
refuses(404, "/models/nobody")
refuses(400, "/chat/completions", {"model": arm})
refuses(400, "/chat/completions", chat(arm) | {"temperature": "warm"})
refuses(400, "/completions", {"model": arm, "prompt": "x"})
refuses(404, "/nowhere")
refuses(405, "/chat/completions")
print("ok")
