// Every endpoint beside chat, completions, files and batches, against the models of tests/python/institute.py: a word is a token, 1 µcr
// for a token in, 2 for a token out, at least 1 for a call, 7 for an item of a prediction. Each step gives how many calls were charged.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.COMITY_NODE_MODULES}/`);
const OpenAI = require("openai");

const model = "institute/letters";
// Log-probabilities, several choices, prompts back: there a letter is a token.
const scored = "institute/scored";
const text = "one two three four";

// What each reply is to name: the one door that the owners' nodes have this time.
const door = process.env.COMITY_DOOR;

function costs(response, ucr) {
  assert.equal(response.headers.get("comity-door"), door);
  assert.equal(response.headers.get("comity-cost"), String(ucr));
  assert.match(response.headers.get("x-request-id"), /^req-/);
  assert.ok(response.headers.get("comity-receipt-id") && Number(response.headers.get("comity-remaining")) > 0);
}

function refusal(kind, status, code) {
  return (error) => error instanceof kind && error.status === status && error.code === code && error.headers.get("x-should-retry") === "false";
}

export function surfaceOf(client, baseURL) {
  const root = baseURL.replace(/\/v1$/, "");
  const post = async (path, body) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(root + path, { method: "POST", headers, body: JSON.stringify(body) });
    return { status: response.status, headers: response.headers, said: await response.json() };
  };

  // Without a choice the package asks for base64 and decodes what it gets without looking.
  async function embedded() {
    const want = [[2, -4.5, 0.5], [0.5, -1, 0.5]];
    for (const options of [{}, { encoding_format: "float" }]) {
      const { data, response } = await client.embeddings.create({ model, input: [text, "five"], ...options }).withResponse();
      assert.deepEqual(data.data.map((row) => [...row.embedding]), want);
      assert.deepEqual(data.usage, { prompt_tokens: 5, total_tokens: 5 });
      costs(response, 5);
    }
    const raw = await client.embeddings.create({ model, input: text, encoding_format: "base64" });
    assert.equal(raw.data[0].embedding, Buffer.from(new Float32Array(want[0]).buffer).toString("base64"));
    await assert.rejects(client.embeddings.create({ model, input: [] }), refusal(OpenAI.BadRequestError, 400, "invalid_request"));
    await assert.rejects(client.embeddings.create({ model: "institute/none", input: "a" }), refusal(OpenAI.NotFoundError, 404, "model_not_found"));
    await assert.rejects(client.embeddings.create({ model: "lab/tiny-b", input: "a" }), refusal(OpenAI.PermissionDeniedError, 403, "op_not_offered"));
    return 3;
  }

  // The older endpoint as evaluations use it, with prompts as text and as token ids.
  async function completed() {
    const create = (more) => client.completions.create({ model: scored, prompt: "ab", max_tokens: 3, ...more }).withResponse();
    for (const prompt of ["one two", [...Buffer.from("one two")]]) {
      for (const limit of [1, 0]) {
        const { data, response } = await create({ prompt, echo: true, logprobs: 2, max_tokens: limit, temperature: 0 });
        const { text, logprobs } = data.choices[0];
        assert.deepEqual([text, logprobs.tokens.join("")], Array(2).fill("one two" + "h".repeat(limit)));
        assert.ok(logprobs.token_logprobs[0] === null && logprobs.token_logprobs.slice(1).every((value) => value < 0), logprobs);
        assert.deepEqual(logprobs.text_offset, [...text].map((_, at) => at));
        costs(response, 7 + 2 * limit);
      }
    }
    const several = await create({ prompt: ["ab", "abc"], n: 2, logprobs: 1 });
    assert.deepEqual(several.data.choices.map((choice) => [choice.index, choice.text]), [[0, "cde"], [1, "def"], [2, "def"], [3, "efg"]]);
    costs(several.response, 5 + 2 * 12);
    const best = await create({ best_of: 3, max_tokens: 4 });
    assert.deepEqual(best.data.choices.map((choice) => choice.text), ["cdef"]);
    costs(best.response, 2 + 2 * 12);
    const stopped = await create({ max_tokens: 8, stop: ["fg", "zz"] });
    assert.deepEqual([stopped.data.choices[0].text, stopped.data.choices[0].finish_reason], ["cde", "stop"]);
    costs(stopped.response, 2 + 2 * 3);
    const texts = ["", ""];
    const stream = await client.completions.create({ model: scored, prompt: "ab", max_tokens: 3, n: 2, stream: true });
    for await (const chunk of stream) for (const choice of chunk.choices) texts[choice.index] += choice.text;
    assert.deepEqual(texts, ["cde", "def"]);
    const messages = [{ role: "user", content: "ab" }];
    const chat = await client.chat.completions.create({ model: scored, messages, max_tokens: 3, n: 2, logprobs: true, top_logprobs: 1 });
    assert.deepEqual(chat.choices.map((choice) => choice.message.content), texts);
    assert.deepEqual(chat.choices[1].logprobs.content.map((entry) => entry.token), [..."def"]);
    await assert.rejects(create({ n: 5 }), refusal(OpenAI.PermissionDeniedError, 403, "limit_exceeded"));
    return 9;
  }

  async function responded() {
    const { data, response } = await client.responses.create({ model, input: text, instructions: "be kind" }).withResponse();
    assert.equal(data.output_text, `be kind ${text}`);
    assert.deepEqual([data.usage.input_tokens, data.usage.output_tokens], [6, 6]);
    costs(response, 6 + 2 * 6);
    const events = [];
    const stream = client.responses.stream({ model, input: text });
    for await (const event of stream) events.push(event);
    assert.equal(events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join(""), text);
    assert.equal(events.at(-1).type, "response.completed");
    assert.equal((await stream.finalResponse()).output_text, text);
    const plain = [];
    for await (const event of await client.responses.create({ model, input: "one", stream: true })) plain.push(event.type);
    assert.deepEqual([plain[0], plain.at(-1)], ["response.created", "response.completed"]);
    const kept = client.responses.create({ model, input: "a", previous_response_id: "resp_1" });
    await assert.rejects(kept, (error) => error instanceof OpenAI.BadRequestError && error.param === "previous_response_id");
    return 3;
  }

  async function moderated() {
    const input = ["The sky is blue.", "Card 4111 1111 1111 1111, IBAN DE89370400440532013000, mail a@b.org"];
    const { data, response } = await client.moderations.create({ model, input }).withResponse();
    assert.deepEqual(data.results.map((result) => result.flagged), [false, true]);
    assert.equal(data.results[1].categories.personal_data, true);
    costs(response, 1);
    return 1;
  }

  async function listedById() {
    const ids = [];
    for await (const entry of client.models.list()) ids.push(entry.id);
    for (const id of [model, "institute/risk"]) {
      assert.ok(ids.includes(id), ids.join(" "));
      const entry = await client.models.retrieve(id);
      assert.deepEqual([entry.id, entry.object, entry.owned_by], [id, "model", "institute"]);
    }
    await assert.rejects(client.models.retrieve("institute/none"), refusal(OpenAI.NotFoundError, 404, "model_not_found"));
    return 0;
  }

  async function plainly() {
    const { status, headers, said } = await post("/tokenize", { model, prompt: "añb" });
    assert.deepEqual([status, said.tokens], [200, [...Buffer.from("añb")]]);
    assert.equal(headers.get("comity-cost"), "1");
    const back = await post("/v1/detokenize", { model, tokens: said.tokens });
    assert.deepEqual([back.status, back.said], [200, { prompt: "añb" }]);
    const risk = await post("/v1/predict", { model: "institute/risk", inputs: [{ age: 0 }, { age: 64 }] });
    assert.deepEqual([risk.status, risk.said.outputs], [200, [0, 0.5]]);
    assert.equal(risk.headers.get("comity-cost"), "14");
    const wrong = await post("/v1/predict", { model: "institute/risk", inputs: [{ age: "old" }] });
    assert.deepEqual([wrong.status, wrong.said.error.code], [400, "invalid_request"]);
    return 3;
  }

  // The owner lets two calls an hour through.
  async function paced() {
    const ask = () => client.chat.completions.create({ model: "institute/seldom", messages: [{ role: "user", content: "one" }], max_tokens: 4 });
    for (const left of ["1", "0"]) {
      const { response } = await ask().withResponse();
      assert.equal(response.headers.get("x-ratelimit-limit-requests"), "2");
      assert.equal(response.headers.get("x-ratelimit-remaining-requests"), left);
      assert.match(response.headers.get("x-ratelimit-reset-requests"), /^\d+s$/);
    }
    await assert.rejects(ask(), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError && error.code === "too_many_requests", error);
      const after = Number(error.headers.get("retry-after"));
      return after > 0 && after <= 3600 && error.headers.get("x-ratelimit-remaining-requests") === "0";
    });
    return 2;
  }

  return [embedded, completed, responded, moderated, listedById, plainly, paced];
}
