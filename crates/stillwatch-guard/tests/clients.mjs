// The official client for Node against a guard; see tests/gateway/clients.rs.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, folder] = process.argv.slice(2);
const OpenAI = createRequire(`${folder}/x.js`)("openai");
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "sk-good", maxRetries: 0 });
const ask = (content = "What is 2+2?") => ({ model: "m", messages: [{ role: "user", content }] });

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ["m"]);

const schema = { type: "object", properties: { answer: { type: "integer" } }, required: ["answer"] };
const form = { type: "json_schema", json_schema: { name: "answer", schema } };
let answer = await client.chat.completions.create({ ...ask(), response_format: form });
assert.deepEqual(JSON.parse(answer.choices[0].message.content), { answer: 4 });
assert.equal(answer.usage.total_tokens, 5);

let [text, usage] = ["", null];
const options = { stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create({ ...ask(), ...options })) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, "Hello");
assert.equal(usage.completion_tokens, 2);

const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
answer = await client.chat.completions.create({ ...ask(), tools });
assert.deepEqual(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), { a: 1 });
const stream = client.chat.completions.stream({ ...ask(), tools });
const whole = await stream.finalChatCompletion();
assert.deepEqual(JSON.parse(whole.choices[0].message.tool_calls[0].function.arguments), { a: 1 });

assert.equal((await client.responses.create({ model: "m", input: "Hi" })).output_text, "Hello");
const embeddings = await client.embeddings.create({ model: "m", input: "Hi", encoding_format: "float" });
assert.deepEqual(embeddings.data[0].embedding, [0.5, 1]);

let seen = 0;
for await (const chunk of await client.chat.completions.create({ ...ask("for ever"), stream: true })) {
  assert.equal(chunk.choices[0].delta.content, "a");
  // To leave the loop is to break the stream off.
  if (++seen === 3) break;
}

await assert.rejects(client.chat.completions.create(ask("please fail")), (error) => {
  assert(error instanceof OpenAI.BadRequestError);
  assert.equal(error.code, "x");
  return true;
});

const suspended = new OpenAI({ baseURL: `${base}/v1`, apiKey: "sk-bad", maxRetries: 0 });
await assert.rejects(suspended.chat.completions.create(ask()), (error) => {
  assert(error instanceof OpenAI.PermissionDeniedError);
  assert.equal(error.code, "access_suspended");
  return true;
});
