// The unmodified `openai` package of Node through `comity proxy`, started by tests/python/federation.py, which compares the count on
// the last line with the receipts. COMITY_BASE_URL is the proxy; COMITY_DOOR the door that each reply is to name; COMITY_NODE_MODULES the folder
// that `openai` was installed into.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import net from "node:net";

import { surfaceOf } from "./surface.mjs";

const require = createRequire(`${process.env.COMITY_NODE_MODULES}/`);
const OpenAI = require("openai");
const { toFile } = OpenAI;

const baseURL = process.env.COMITY_BASE_URL;
const model = "lab/tiny-b";
const messages = [{ role: "user", content: "What is the capital of France?" }];
const endpoint = "/v1/chat/completions";
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const ask = (more = {}, options = {}) =>
  client.chat.completions.create({ model, messages, max_tokens: 8, temperature: 0, ...more }, options);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function listed() {
  const ids = [];
  for await (const entry of client.models.list()) ids.push(entry.id);
  assert.ok(ids.includes(model) && !ids.includes("agency/tiny-c"), ids.join(" "));
  assert.equal((await client.models.retrieve(model)).id, model);
  return 0;
}

async function answered() {
  const { data: chat, response } = await ask().withResponse();
  assert.equal(chat.object, "chat.completion");
  assert.ok(chat.usage.completion_tokens > 0);
  assert.equal(response.headers.get("comity-door"), process.env.COMITY_DOOR);
  for (const name of ["x-request-id", "comity-cost", "comity-receipt-id", "comity-served-by"]) {
    assert.ok(response.headers.get(name), name);
  }
  const text = await client.completions.create({ model, prompt: "The capital of France is", max_tokens: 8 });
  assert.equal(text.object, "text_completion");
  return 2;
}

async function streamed() {
  for (const include of [true, false]) {
    const chunks = [];
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: include } })) chunks.push(chunk);
    const last = chunks.at(-1);
    if (include) assert.ok(last.choices.length === 0 && last.usage.completion_tokens > 0);
    else assert.ok(chunks.every((chunk) => chunk.choices.length > 0 && !chunk.usage));
  }
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 8 });
  assert.ok((await stream.finalChatCompletion()).choices[0].message.content.length > 0);
  return 3;
}

async function left() {
  for await (const _ of await ask({ stream: true, max_tokens: 128 })) break;
  return 1;
}

async function refused() {
  await assert.rejects(ask({ model: "lab/none" }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  await assert.rejects(ask({ model: "agency/tiny-c" }), (error) => error instanceof OpenAI.PermissionDeniedError);
  await assert.rejects(ask({ temperature: "hot" }), (error) => error instanceof OpenAI.BadRequestError);
  await assert.rejects(ask({ max_tokens: 10_000_000 }), (error) => error.status === 402 && error.code === "wallet_limit");
  return 0;
}

async function again() {
  const options = { headers: { "Idempotency-Key": "node-1" } };
  const first = await ask({}, options);
  const { data, response } = await ask({}, options).withResponse();
  assert.deepEqual(data, first);
  assert.equal(response.headers.get("comity-cost"), "0");
  const other = ask({ max_tokens: 9 }, options);
  await assert.rejects(other, (error) => error instanceof OpenAI.UnprocessableEntityError && error.code === "idempotency_conflict");
  return 1;
}

// Takes the reply of the first connection and loses it.
async function lost() {
  const to = new URL(baseURL);
  let drops = 1;
  const lossy = net.createServer((near) => {
    const far = net.connect(to.port, to.hostname);
    near.pipe(far);
    far.on("data", (data) => {
      if (drops > 0) {
        drops -= 1;
        near.destroy();
        far.destroy();
      } else near.write(data);
    });
    for (const side of [near, far]) side.on("error", () => {}).on("close", () => (near.destroy(), far.destroy()));
  });
  await new Promise((done) => lossy.listen(0, "127.0.0.1", done));
  const through = new OpenAI({ baseURL: `http://127.0.0.1:${lossy.address().port}/v1`, apiKey: "unused", maxRetries: 2 });
  const chat = await through.chat.completions.create({ model, messages: [{ role: "user", content: "Lost" }], max_tokens: 8 });
  assert.equal(drops, 0);
  assert.ok(chat.choices.length === 1);
  lossy.close();
  return 1;
}

async function batched() {
  const line = (n) => JSON.stringify({ custom_id: `n-${n}`, method: "POST", url: endpoint, body: { model, messages, max_tokens: 4 } });
  const text = [0, 1, 2, 3].map(line).join("\n");
  const file = await client.files.create({ file: await toFile(Buffer.from(text), "in.jsonl"), purpose: "batch" });
  let batch = await client.batches.create({ input_file_id: file.id, endpoint, completion_window: "24h" });
  for (let tries = 0; batch.status !== "completed"; tries += 1) {
    assert.ok(tries < 600 && batch.status !== "failed", JSON.stringify(batch));
    await pause(100);
    batch = await client.batches.retrieve(batch.id);
  }
  assert.deepEqual(batch.request_counts, { total: 4, completed: 4, failed: 0 });
  const output = await (await client.files.content(batch.output_file_id)).text();
  assert.equal(output.trim().split("\n").length, 4);
  assert.ok((await client.files.delete(file.id)).deleted);
  return 4;
}

let count = 0;
const surface = surfaceOf(client, baseURL);
for (const step of [listed, answered, streamed, left, refused, again, lost, batched, ...surface]) {
  try {
    count += await step();
  } catch (error) {
    console.error(`${step.name}: ${error.stack}`);
    process.exit(1);
  }
}
console.log(JSON.stringify({ answered: count, node: process.version }));
