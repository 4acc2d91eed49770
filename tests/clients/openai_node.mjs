// The openai package for Node against a ring: `node openai_node.mjs BASE_URL MODEL PACKAGES`.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, model, packages] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const OpenAI = require("openai").default ?? require("openai");
const client = new OpenAI({ baseURL: base, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Say hello in three words." }];
const same = { model, messages, max_completion_tokens: 16, temperature: 0, seed: 1 };

async function whole() {
  const answer = await client.chat.completions.create(same);
  const { message, finish_reason: reason } = answer.choices[0];
  assert.ok(message.content.length > 0);
  assert.ok(["stop", "length"].includes(reason));
  const { prompt_tokens: prompt, completion_tokens: said, total_tokens: all } = answer.usage;
  assert.equal(all, prompt + said);
  return message.content;
}

async function streamed() {
  const expected = await whole();
  let text = "";
  let usage = null;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...same, ...options })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, expected);
  assert.ok(usage.completion_tokens > 0);
}

async function helper() {
  const stream = client.chat.completions.stream(same);
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, await whole());
}

async function structured() {
  const schema = {
    type: "object",
    properties: { name: { type: "string", maxLength: 20 }, age: { type: "integer" } },
    required: ["name", "age"],
    additionalProperties: false,
  };
  const format = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
  const about = [{ role: "user", content: "Tell me about Ann, who is 30." }];
  const request = { ...same, messages: about, max_completion_tokens: 200, response_format: format };
  const answer = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 2 });
  const [choice] = answer.choices;
  assert.equal(choice.finish_reason, "stop");
  const person = JSON.parse(choice.message.content);
  assert.deepEqual(Object.keys(person), ["name", "age"]);
  assert.ok(Number.isInteger(person.age));
  const told = choice.logprobs.content.map((token) => token.token).join("");
  assert.equal(told, choice.message.content);
}

async function called() {
  const parameters = {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 } },
    required: ["city"],
    additionalProperties: false,
  };
  const tool = { type: "function", function: { name: "weather", parameters, strict: true } };
  const stream = client.chat.completions.stream({
    ...same,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    max_completion_tokens: 64,
    tools: [tool],
    tool_choice: "required",
  });
  const { choices } = await stream.finalChatCompletion();
  assert.equal(choices[0].finish_reason, "tool_calls");
  const [call] = choices[0].message.tool_calls;
  assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
}

async function responses() {
  const request = { model, input: "Say hello.", max_output_tokens: 12, temperature: 0 };
  const answer = await client.responses.create(request);
  assert.ok(answer.output_text.length > 0);
  const stream = client.responses.stream(request);
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(text, answer.output_text);
  assert.equal(final.usage.output_tokens, answer.usage.output_tokens);
}

async function listed() {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  assert.ok(ids.includes(model), `${ids}`);
}

async function refused() {
  const fails = async (status, param, wrong) => {
    const failure = await client.chat.completions.create({ ...same, ...wrong }).catch((e) => e);
    assert.ok(failure instanceof OpenAI.APIError, `${failure}`);
    assert.equal(failure.status, status);
    assert.equal(failure.param, param);
  };
  await fails(404, "model", { model: "no-such-model" });
  await fails(400, "temperature", { temperature: 9 });
  await fails(400, "messages", { messages: [] });
}

async function cancelled() {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Write a very long story about a fox." }],
    stream: true,
    temperature: 0,
  });
  let seen = 0;
  for await (const _ of stream) {
    seen += 1;
    if (seen === 3) stream.controller.abort();
  }
  const until = Date.now() + 60_000;
  for (;;) {
    const status = await (await fetch(`${base}/status`)).json();
    if (status.requests.length === 0) return;
    assert.ok(Date.now() < until, JSON.stringify(status.requests));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const parts = [whole, streamed, helper, structured, called, responses, listed, refused, cancelled];
for (const part of parts) {
  const begin = Date.now();
  await part();
  console.log(`${part.name}: ${((Date.now() - begin) / 1000).toFixed(1)} s`);
}
