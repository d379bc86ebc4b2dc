// The official JavaScript client: npm install openai.
//
//     node openai_node.mjs http://127.0.0.1:8787/v1 two-stage/sd-t/qwen-1.5b

import assert from "node:assert";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "not-needed", maxRetries: 0 });
const messages = [{ role: "user", content: "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?" }];

const reply = await client.chat.completions.create({ model, messages });
console.log("steps:", reply.choices[0].message.reasoning_content);
console.log("answer:", reply.choices[0].message.content);
assert(reply.choices[0].message.content && reply.usage.total_tokens > 0);

let text = "";
let steps = 0;
const stream = await client.chat.completions.create({ model, messages, stream: true });
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  steps += chunk.divvy?.event === "subquestion" ? 1 : 0;
}
console.log(`streamed: ${text} (${steps} subquestions told)`);
assert(text);

await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);

// Going away stops the work behind it.
const leaving = await client.chat.completions.create({ model, messages, stream: true });
leaving.controller.abort();
console.log("ok");
