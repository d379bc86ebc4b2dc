"""LangChain: pip install langchain-openai.

    python langchain_chat.py http://127.0.0.1:8787/v1 two-stage/sd-t/qwen-1.5b
"""

import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

base_url, model = sys.argv[1:3]
chat = ChatOpenAI(base_url=base_url, model=model, api_key="not-needed", max_retries=0, stream_usage=True)
messages = [
    SystemMessage("Answer briefly."),
    HumanMessage("Ann has 3 boxes of 12 pens and gives 7 away. How many are left?"),
]

reply = chat.invoke(messages)
print("answer:", reply.content)
print("tokens:", reply.usage_metadata)
assert reply.content and reply.usage_metadata["total_tokens"] > 0

pieces = [piece.content for piece in chat.stream(messages)]
print("streamed:", "".join(pieces))
assert "".join(pieces)
print("ok")
