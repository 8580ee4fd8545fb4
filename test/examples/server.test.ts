import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type Device, openDevice } from "moe-kernels";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { Engine } from "../../build/examples/language_model/generation/engine.js";
import { LanguageModel } from "../../build/examples/language_model/model/language_model.js";
import { ModelServer } from "../../build/examples/language_model/serving/server.js";
import { readTokenizerFiles, TextTokenizer } from "../../build/examples/language_model/text/tokenizer.js";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { golden, words } from "./golden_model.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const path = join(directory.path, "tiny");
const template =
  "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }} {% endfor %}";
cpSync(golden("gpt_oss"), path, { recursive: true });
writeFileSync(join(path, "tokenizer.json"), JSON.stringify(words));
writeFileSync(join(path, "tokenizer_config.json"), JSON.stringify({ chat_template: template }));
// No token ends a text, so that a test may have one that goes on.
writeFileSync(join(path, "generation_config.json"), JSON.stringify({ eos_token_id: [] }));
const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, max_position_embeddings: 2_000_000 }));

/** A text that goes on until its client leaves. */
const endless = { prompt: "w1 w2", max_tokens: 1_000_000, stream: true };

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON.
type Json = any;

/** The events of a stream. */
async function* eventsOf(response: Response): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      yield text.slice(0, end).replace(/^data: /, "");
      text = text.slice(end + 2);
    }
  }
  expect(text).toBe("");
}

async function allEvents(response: Response): Promise<string[]> {
  const events: string[] = [];
  for await (const event of eventsOf(response)) events.push(event);
  return events;
}

/** A stream that has begun. */
async function begun(post: (fields: object, signal: AbortSignal) => Promise<Response>) {
  const controller = new AbortController();
  const events = eventsOf(await post(endless, controller.signal));
  await events.next();
  return { events, leave: () => controller.abort() };
}

function poster(origin: string) {
  return (fields: unknown, signal?: AbortSignal, route = "/v1/completions") =>
    fetch(`${origin}${route}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof fields === "string" ? fields : JSON.stringify(fields),
      signal: signal ?? null,
    });
}

describe("a server", () => {
  let device: Device;
  let model: LanguageModel;
  let tokenizer: TextTokenizer;
  let engine: Engine;
  let server: ModelServer;
  let origin: string;
  let post: ReturnType<typeof poster>;

  beforeAll(async () => {
    device = openDevice("cpu", { threads: 2 });
    model = await LanguageModel.load(device, path);
    tokenizer = new TextTokenizer(await readTokenizerFiles(path));
  });
  afterAll(async () => {
    model[Symbol.dispose]();
    await device.close();
  });

  const start = async (limits: { running: number; waiting: number; context?: number }) => {
    engine = new Engine(model, limits);
    const { vocabulary } = model.config;
    const { context = 2_000_000 } = limits;
    server = new ModelServer({ name: "tiny", tokenizer, vocabulary, context, engine, device });
    const { port } = await server.listen(0, "127.0.0.1");
    origin = `http://127.0.0.1:${port}`;
    post = poster(origin);
  };
  beforeEach(() => start({ running: 4, waiting: 4 }));
  afterEach(async () => {
    vi.restoreAllMocks();
    server.abort();
    await server.close();
    await engine[Symbol.asyncDispose]();
  });

  const completed = async (fields: object): Promise<Json> => {
    const response = await post(fields);
    expect(response.status).toBe(200);
    return await response.json();
  };
  /** The status of an answer, the code of its error, and its message. */
  const refusal = async (answer: Promise<Response>) => {
    const response = await answer;
    expect(response.headers.get("content-type")).toBe("application/json");
    const { error } = (await response.json()) as Json;
    expect(error.type).toBe(response.status < 500 ? "invalid_request_error" : "server_error");
    // The field that the message begins with.
    const fields = /^((?!body|content-type)[\w.]+): /.exec(error.message) ?? [null, null];
    expect(error.param).toBe(fields[1]);
    return { status: response.status, code: error.code, message: error.message };
  };

  test("answers with the whole text, and counts tokens", async () => {
    const asked = { model: "tiny", prompt: "w1 w2 w3", max_tokens: 5, temperature: 0 };
    const body = await completed(asked);
    expect(body).toMatchObject({
      ...{ object: "text_completion", model: "tiny" },
      choices: [{ index: 0, finish_reason: "length", logprobs: null }],
      usage: { prompt_tokens: 3, completion_tokens: 5, total_tokens: 8 },
    });
    expect(body.id).toMatch(/^cmpl-/);
    expect(body.choices[0].text).toMatch(/^w\d+( ?w\d+){4}$/);
    // Ids instead of a text.
    expect((await completed({ ...asked, prompt: [1, 2, 3] })).choices).toEqual(body.choices);
  });

  test("draws the same tokens for a seed", async () => {
    const asked = { prompt: "w1 w2 w3", max_tokens: 12, temperature: 3 };
    const texts = await Promise.all([1, 1, 2].map((seed) => completed({ ...asked, seed })));
    const [first, again, other] = texts.map(({ choices }) => choices[0].text);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test("stops at a token that ends texts", async () => {
    const first = (await completed({ prompt: [1, 2, 3], max_tokens: 3, temperature: 0 })).choices[0].text;
    const [, , end] = tokenizer.encode(first.replaceAll("w", " w"));
    const ends = vi.spyOn(tokenizer, "endIds", "get").mockReturnValue(new Set([end as number]));
    const body = await completed({ prompt: [1, 2, 3], max_tokens: 9, temperature: 0 });
    ends.mockRestore();
    expect(body.choices[0].finish_reason).toBe("stop");
    expect(body.usage.completion_tokens).toBeLessThan(3);
    expect(first.startsWith(body.choices[0].text)).toBe(true);
  });

  test("draws only the most likely tokens with top_p", async () => {
    const asked = { prompt: "w1 w2 w3", max_tokens: 12, temperature: 3, seed: 1 };
    const text = async (fields: object) => (await completed({ ...asked, ...fields })).choices[0].text;
    const likely = await text({ temperature: 0 });
    expect(await text({ top_p: 0 })).toBe(likely);
    expect(await text({ top_p: 1 })).toBe(await text({}));
    expect(await text({ top_p: 1 })).not.toBe(likely);
    const [half, again] = [await text({ top_p: 0.5 }), await text({ top_p: 0.5 })];
    expect(again).toBe(half);
    expect([likely, await text({})]).not.toContain(half);
  });

  test("draws the same tokens on a busy server", async () => {
    const asked = ["w1 w2 w3", "w4 w5", "w6 w7 w8 w9"].map((prompt, seed) => {
      return { prompt, max_tokens: 8, temperature: 2, top_p: 0.9, seed };
    });
    const alone: string[] = [];
    for (const each of asked) alone.push((await completed(each)).choices[0].text);
    const other = await begun(post);
    const together = await Promise.all(asked.map(completed));
    other.leave();
    expect(together.map(({ choices }) => choices[0].text)).toEqual(alone);
  });

  test("ends before a text to stop at", async () => {
    const asked = { prompt: "w1 w2 w3", max_tokens: 9, temperature: 1, seed: 2 };
    const whole: string = (await completed(asked)).choices[0].text;
    const place = whole.indexOf("w", whole.indexOf("w", whole.indexOf("w") + 1) + 1);
    // From within one token into the next.
    const stop = whole.slice(place - 1, place + 2);
    const before = whole.slice(0, whole.indexOf(stop));
    for (const given of [stop, [stop], [whole.slice(place), "never", stop]]) {
      const body = await completed({ ...asked, stop: given });
      expect(body.choices[0]).toMatchObject({ text: before, finish_reason: "stop" });
      expect(body.usage.completion_tokens).toBeLessThan(9);
      const events = (await allEvents(await post({ ...asked, stop: given, stream: true }))).slice(0, -1);
      const choices = events.map((event) => JSON.parse(event).choices[0]);
      expect(choices.map(({ text }) => text).join("")).toBe(before);
      expect(choices.at(-1).finish_reason).toBe("stop");
    }
    // What might have become one is told at the end.
    const events = (await allEvents(await post({ ...asked, stop: `${whole}!`, stream: true }))).slice(0, -1);
    const texts = events.map((event) => JSON.parse(event).choices[0].text);
    expect(texts).toEqual([whole, ""]);
    for (const none of [null, [], "never"]) {
      expect((await completed({ ...asked, stop: none })).choices[0]).toMatchObject({
        ...{ text: whole, finish_reason: "length" },
      });
    }
  });

  test("streams tokens as events", async () => {
    const asked = { prompt: "w1 w2 w3", max_tokens: 5, temperature: 0 };
    const { choices } = await completed(asked);
    const response = await post({ ...asked, stream: true, stream_options: { include_usage: true } });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const events = await allEvents(response);
    expect(events.pop()).toBe("[DONE]");
    const parsed = events.map((event) => JSON.parse(event));
    expect(parsed.pop()).toMatchObject({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 5 } });
    expect(parsed.map(({ choices }) => choices[0].finish_reason)).toEqual([...Array(5).fill(null), "length"]);
    expect(parsed.map(({ choices }) => choices[0].text).join("")).toBe(choices[0].text);
    expect(new Set(parsed.map(({ id }) => id)).size).toBe(1);
  });

  test("answers a conversation by the model's template", async () => {
    const messages = ["w1", "w2", "w3"].map((content) => ({ role: "user", content }));
    const asked = { messages, max_completion_tokens: 4, temperature: 0 };
    const body = (await (await post(asked, undefined, "/v1/chat/completions")).json()) as Json;
    const { choices } = await completed({ prompt: "w1 w2 w3", max_tokens: 4, temperature: 0 });
    expect(body).toMatchObject({ object: "chat.completion", usage: { prompt_tokens: 3 } });
    expect(body.choices).toEqual([
      { index: 0, message: { role: "assistant", content: choices[0].text }, finish_reason: "length" },
    ]);
    const events = await allEvents(await post({ ...asked, stream: true }, undefined, "/v1/chat/completions"));
    expect(events.pop()).toBe("[DONE]");
    const deltas = events.map((event) => JSON.parse(event)).map(({ choices }) => choices[0].delta);
    expect(deltas[0]).toEqual({ role: "assistant", content: "" });
    expect(deltas.at(-1)).toEqual({});
    expect(deltas.map(({ content = "" }) => content).join("")).toBe(choices[0].text);
  });

  test("computes requests together, with the tokens that each has alone", async () => {
    const prompts = ["w1 w2 w3", "w4", "w5 w6 w7 w8"];
    const asked = prompts.map((prompt) => ({ prompt, max_tokens: 8, temperature: 0 }));
    const alone: string[] = [];
    for (const each of asked) alone.push((await completed(each)).choices[0].text);
    const forward = vi.spyOn(model, "forward");
    // It runs until the others are answered, so every step has several parts.
    const other = await begun(post);
    const together = await Promise.all(asked.map(completed));
    other.leave();
    const sizes = forward.mock.calls.map(([parts]) => parts.length);
    expect(together.map(({ choices }) => choices[0].text)).toEqual(alone);
    expect(Math.max(...sizes)).toBeGreaterThan(1);
  });

  test("stops computing for a client that leaves, and frees what it kept", async () => {
    const made = vi.spyOn(model, "sequence");
    const { leave } = await begun(post);
    // Without a stream, an answer has no byte until it is whole.
    const controller = new AbortController();
    const whole = post({ ...endless, stream: false }, controller.signal);
    await vi.waitFor(() => expect(made).toHaveBeenCalledTimes(2), { timeout: 60_000 });
    const sequences = made.mock.results.map(({ value }) => value as { caches: { keys(): unknown }[] });
    leave();
    controller.abort();
    await expect(whole).rejects.toThrow("aborted");
    // Waits until the engine has nothing to do, and it would go on for a million tokens.
    await engine[Symbol.asyncDispose]();
    for (const { caches } of sequences) {
      for (const cache of caches) expect(() => cache.keys()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    }
  });

  test("gives the place of a client that leaves while it waits to another", async () => {
    await server.close();
    await start({ running: 1, waiting: 1 });
    const first = await begun(post);
    const waits = vi.spyOn(engine, "continue");
    const controller = new AbortController();
    const left = post({ prompt: "w1", max_tokens: 1 }, controller.signal);
    await vi.waitFor(() => expect(waits).toHaveBeenCalled(), { timeout: 60_000 });
    controller.abort();
    await expect(left).rejects.toThrow("aborted");
    const answer = async () => {
      const response = await post({ prompt: "w1", max_tokens: 2 });
      expect(response.status).toBe(200);
      return (await response.json()) as Json;
    };
    const placed = vi.waitFor(answer, { timeout: 60_000 });
    await vi.waitFor(() => expect(waits.mock.results.at(-1)?.type).toBe("return"), { timeout: 60_000 });
    first.leave();
    expect((await placed).usage.completion_tokens).toBe(2);
  });

  test("refuses a request if as many wait as may, and answers one that waited", async () => {
    await server.close();
    await start({ running: 1, waiting: 0 });
    const first = await begun(post);
    expect(await refusal(post({ prompt: "w1", max_tokens: 1 }))).toEqual({
      ...{ status: 429, code: "queue_full" },
      message: "expected at most 1 texts that run and 0 that wait, got one more; try again later",
    });
    first.leave();
    await engine[Symbol.asyncDispose]();
    expect((await completed({ prompt: "w1", max_tokens: 1 })).usage.completion_tokens).toBe(1);
    await server.close();

    await start({ running: 1, waiting: 1 });
    const second = await begun(post);
    const waits = vi.spyOn(engine, "continue");
    const answer = completed({ prompt: "w1", max_tokens: 2 });
    await vi.waitFor(() => expect(waits).toHaveBeenCalled(), { timeout: 60_000 });
    second.leave();
    expect((await answer).usage.completion_tokens).toBe(2);
  });

  test("has one model", async () => {
    const models = (await (await fetch(`${origin}/v1/models`)).json()) as Json;
    expect(models).toMatchObject({ object: "list", data: [{ id: "tiny", object: "model" }] });
    expect(await (await fetch(`${origin}/v1/models/t%69ny`)).json()).toEqual(models.data[0]);
    expect(await refusal(fetch(`${origin}/v1/models/%ff`))).toMatchObject({ status: 404, code: "model_not_found" });
    expect(await refusal(post({ model: "huge", prompt: "w1" }))).toEqual({
      ...{ status: 404, code: "model_not_found", message: 'model: expected "tiny", got "huge"' },
    });
  });

  test.each([
    ['{"prompt": "w1"', 400, "invalid_json", /^body: expected JSON: /],
    ["[]", 400, "invalid_json", /^body: expected an object, got \[\]$/],
    [{}, 400, "invalid_value", /^prompt: expected a text, or ids of tokens below 40, or an array .*, got none$/],
    [{ prompt: ["w1", "w2"] }, 400, "invalid_value", /^prompt: expected a text, or ids .*, got \["w1","w2"\]$/],
    [
      `{"prompt": ${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
      400,
      "invalid_value",
      /, got (a value that is nested too |\[{20})/, // later versions of Node can write it
    ],
    [
      { prompt: [40] },
      400,
      "invalid_value",
      /^prompt: expected a text, or ids of tokens below 40, or an array .*, got \[40\]$/,
    ],
    [{ prompt: "" }, 400, "invalid_value", /^prompt: expected at least one token, got none$/],
    [{ prompt: "w1", max_tokens: 0 }, 400, "invalid_value", /^max_tokens: expected an integer above 0, got 0$/],
    [{ prompt: "w1", temperature: -1 }, 400, "invalid_value", /^temperature: expected a number >= 0, got -1$/],
    [{ prompt: "w1", seed: 0.5 }, 400, "invalid_value", /^seed: expected an integer >= 0, got 0\.5$/],
    [{ prompt: "w1", stream: 1 }, 400, "invalid_value", /^stream: expected true or false, got 1$/],
    [
      { prompt: "w1", stream_options: { include_usage: 1 } },
      ...([400, "invalid_value", /^stream_options\.include_usage: expected true or false, got 1$/] as const),
    ],
    [{ prompt: "w1", stop: ["w2", ""] }, 400, "invalid_value", /^stop: expected a text, or an array of texts, none /],
    [{ prompt: "w1", top_p: 1.5 }, 400, "invalid_value", /^top_p: expected a number from 0 to 1, got 1\.5$/],
    [{ prompt: "w1", n: 2 }, 400, "unsupported_field", /^n: expected 1, got 2$/],
    [{ prompt: "w1", tools: [{}] }, 400, "unsupported_field", /^tools: expected \[\], got \[\{\}\]$/],
    [{ prompt: "w1", min_p: 0.1 }, 400, "unsupported_field", /^min_p: expected no such field, got 0\.1$/],
    [{ prompt: "w1", messages: [] }, 400, "unsupported_field", /^messages: expected no such field, got \[\]$/],
  ])("refuses %j", async (fields, status, code, message) => {
    const refused = await refusal(post(fields));
    expect(refused).toMatchObject({ status, code });
    expect(refused.message).toMatch(message);
  });

  test("takes fields whose values are the usual ones", async () => {
    const fields = { n: 1, top_p: 1, stop: null, presence_penalty: 0, user: "me", logit_bias: null, tools: [] };
    const more = { response_format: { type: "text" }, tool_choice: "auto" };
    expect((await completed({ prompt: "w1", max_tokens: 1, ...fields, ...more })).usage.total_tokens).toBe(2);
    for (const prompt of [["w1 w2"], [[1, 2]]]) {
      expect((await completed({ prompt, max_tokens: 1 })).usage.prompt_tokens).toBe(2);
    }
  });

  test("takes contents in parts of text", async () => {
    const chat = async (content: unknown) => {
      const asked = { messages: [{ role: "user", content }], max_tokens: 3, temperature: 0 };
      return await post(asked, undefined, "/v1/chat/completions");
    };
    const parts = ["w1 ", "w2"].map((text) => ({ type: "text", text }));
    const [whole, joined] = [await chat("w1 w2"), await chat(parts)];
    expect(((await joined.json()) as Json).choices).toEqual(((await whole.json()) as Json).choices);
    expect(await refusal(chat([{ type: "image_url", image_url: {} }]))).toMatchObject({ code: "invalid_value" });
  });

  test("refuses conversations that the model has no form for", async () => {
    const chat = (messages: unknown) => refusal(post({ messages }, undefined, "/v1/chat/completions"));
    expect(await chat([{ role: "system", content: "w1" }])).toMatchObject({
      ...{ status: 400, code: "invalid_messages", message: "messages: no system" },
    });
    expect((await chat([{ role: "user" }])).message).toMatch(/^messages: expected an array of \{ role, content \}/);
    vi.spyOn(tokenizer, "encodeChat").mockImplementation((messages) => {
      return new TextTokenizer({ tokenizer: words, settings: {}, endIds: [] }).encodeChat(messages);
    });
    expect((await chat([{ role: "user", content: "w1" }])).message).toMatch(/^messages: chat: expected a model with /);
  });

  test("has room for a prompt and its answer", async () => {
    await server.close();
    await start({ running: 1, waiting: 0, context: 4 });
    expect(await refusal(post({ prompt: "w1 w2 w3 w4" }))).toEqual({
      ...{ status: 400, code: "context_length_exceeded" },
      message: "prompt: expected fewer tokens than the 4 that this server has for a prompt and its answer, got 4",
    });
    expect((await completed({ prompt: "w1 w2", max_tokens: 100 })).usage.completion_tokens).toBe(2);
  });

  test("refuses other paths, methods, types and large bodies", async () => {
    expect(await refusal(fetch(`${origin}/v2?x`))).toMatchObject({ status: 404, code: "not_found" });
    const wrong = await fetch(`${origin}/v1/completions`);
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
    const text = fetch(`${origin}/v1/completions`, { method: "POST", body: "{}" });
    expect(await refusal(text)).toMatchObject({
      ...{ status: 415, message: expect.stringContaining("expected application/json, got text/plain") },
    });
    expect(await refusal(post({ prompt: "w".repeat(2 ** 21) }))).toMatchObject({ status: 413, code: "too_large" });
  });

  test("answers a client that sends all of a large body before it reads", async () => {
    const body = Buffer.alloc(2 ** 26, "w");
    const socket = connect(Number(new URL(origin).port), "127.0.0.1").setEncoding("utf8");
    const header = `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    socket.write(header);
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.write(body, () => resolve());
    });
    const [first] = (await once(socket, "data")) as [string];
    expect(first).toMatch(/^HTTP\/1\.1 413 /);
    socket.destroy();
  });

  test("tells an error of the device before the first token by its status, later in the stream", async () => {
    const forward = vi.spyOn(model, "forward");
    forward.mockRejectedValueOnce(new Error("first"));
    expect(await refusal(post({ ...endless, stream: true }))).toMatchObject({ status: 500, message: "first" });
    const { events } = await begun(post);
    forward.mockRejectedValueOnce(new Error("later"));
    let last = "";
    for await (const event of events) last = event;
    expect(JSON.parse(last).error).toMatchObject({ message: "later", type: "server_error", code: "internal_error" });
  });

  test("that closes refuses requests of connections that it has, and ends when the last is answered", async () => {
    const running = await begun(post);
    const socket = connect(Number(new URL(origin).port), "127.0.0.1").setEncoding("utf8");
    let received = "";
    socket.on("data", (text) => {
      received += text;
    });
    const header =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n";
    socket.write(`${header}Expect: 100-continue\r\n\r\n`);
    await vi.waitFor(() => expect(received).toMatch(/^HTTP\/1\.1 100 /), { timeout: 60_000 });
    const closed = server.close();
    socket.write(`null${header}\r\nnull`);
    await vi.waitFor(() => expect(received).toMatch(/"shutting_down"/), { timeout: 60_000 });
    expect(received.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 100", "HTTP/1.1 400", "HTTP/1.1 503"]);
    await expect(post({ prompt: "w1" })).rejects.toThrow("fetch failed");
    running.leave();
    await closed;
  });
});

describe("npm run example:language-model-server", () => {
  const script = "build/examples/language_model/commands/language_model_server.js";

  /** A process that serves, and what it writes. */
  async function serving(...args: string[]) {
    const child = spawn(process.execPath, [script, "--model", path, "--port", "0", ...args], { cwd: packageRoot() });
    const written = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text) => {
        written[name] += text;
      });
    }
    const exit = new Promise<{ code: number | null }>((resolve) => child.once("close", (code) => resolve({ code })));
    const writes = (name: keyof typeof written, text: RegExp) =>
      vi.waitFor(() => expect(written[name]).toMatch(text), { timeout: 100_000 });
    await writes("stdout", /\n/);
    const [, name, origin] = /^(\S+) at (http:\S+)\/v1\n$/.exec(written.stdout) ?? [];
    return { child, exit, writes, name, post: poster(origin as string) };
  }

  test("answers what it has when a signal ends it", async () => {
    const { child, exit, name, post } = await serving("--name", "mine");
    expect(name).toBe("mine");
    const events = eventsOf(await post({ prompt: "w1", max_tokens: 200, stream: true }));
    await events.next();
    child.kill("SIGTERM");
    let [count, last] = [1, ""];
    for await (const event of events) [count, last] = [count + 1, event];
    expect([count, last]).toEqual([202, "[DONE]"]);
    expect(await exit).toEqual({ code: 0 });
  });

  test("ends at once at a second signal", async () => {
    const { child, exit, writes, name, post } = await serving("--context", "2000000", "--dtype", "int8_g32");
    expect(name).toBe("tiny");
    const { events } = await begun(post);
    child.kill("SIGINT");
    await writes("stderr", /no new requests; the others are answered first\n$/);
    child.kill("SIGINT");
    let last = "";
    for await (const event of events) last = event;
    expect(JSON.parse(last).error).toMatchObject({ code: "shutting_down" });
    expect(await exit).toEqual({ code: 0 });
  });

  test("has a context that the model has", async () => {
    const { status, stderr } = runScript(script, ["--model", path, "--context", "2000001"]);
    const message = "--context: expected at most the 2000000 tokens that the model has, got 2000001";
    expect({ status, stderr }).toEqual({ status: 1, stderr: `example:language-model-server: ${message}\n` });
    const short = temporaryDirectory();
    const model = join(short.path, "short");
    cpSync(path, model, { recursive: true });
    writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, max_position_embeddings: 4 }));
    const { child, exit, post } = await serving("--model", model);
    const response = await post({ prompt: "w1 w2 w3 w4" });
    expect(((await response.json()) as Json).error).toMatchObject({ code: "context_length_exceeded" });
    child.kill("SIGTERM");
    expect(await exit).toEqual({ code: 0 });
    short[Symbol.dispose]();
  });

  test("tells that an address is not free", async () => {
    const { child, exit, post } = await serving();
    const { port } = new URL((await post("{}")).url);
    const { status, stderr } = runScript(script, ["--model", path, "--port", port]);
    expect(status).toBe(1);
    expect(stderr).toContain(
      `--host, --port: expected a free address of this machine, got 127.0.0.1 and ${port}: listen EADDRINUSE`,
    );
    child.kill("SIGTERM");
    expect(await exit).toEqual({ code: 0 });
  });
});
