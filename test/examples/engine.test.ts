import { type Device, isMoeError, openDevice } from "moe-kernels";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { Engine, QueueFullError } from "../../build/examples/language_model/generation/engine.js";
import { LanguageModel } from "../../build/examples/language_model/model/language_model.js";
import { Sequence } from "../../build/examples/language_model/model/sequence.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { expected, families, golden } from "./golden_model.js";

const bitsOf = (logits: Float32Array | undefined) => new Uint32Array(Float32Array.from(logits ?? []).buffer).join();

// In deepseek_v2, deepseek_v3 and kimi_k2 attention is that of latents, in mixtral and gpt_oss it has a window, and in gpt_oss sinks.
test.each(families)("a sequence of %s has the same bits alone and among others", async (family) => {
  await using device = openDevice("cpu", { threads: 2 });
  using model = await LanguageModel.load(device, golden(family));
  const { ids } = await expected(family);
  using alone = model.sequence();
  const logitsAlone: string[] = [];
  for (let begin = 0, end = 5; end <= ids.length; begin = end++) {
    const [logits] = await model.forward([{ sequence: alone, ids: ids.slice(begin, end) }]);
    logitsAlone.push(bitsOf(logits));
  }

  // Others are there before it, join with it, and leave. The room of its caches is another.
  using earlier = model.sequence();
  using later = model.sequence();
  await model.forward([{ sequence: earlier, ids: [3, 9, 4] }]);
  using sequence = new Sequence(device, model.config, 1);
  const logitsAmong: string[] = [];
  for (let begin = 0, end = 5; end <= ids.length; begin = end++) {
    const own = { sequence, ids: ids.slice(begin, end) };
    const before = end < 9 ? [{ sequence: earlier, ids: [end] }] : [];
    const after = begin > 0 ? [{ sequence: later, ids: [7, end] }] : [];
    const logits = await model.forward([...before, own, ...after]);
    logitsAmong.push(bitsOf(logits[before.length]));
  }
  expect(logitsAmong).toEqual(logitsAlone);
});

describe("an engine", () => {
  let device: Device;
  let model: LanguageModel;
  beforeAll(async () => {
    device = openDevice("cpu", { threads: 2 });
    model = await LanguageModel.load(device, golden("gpt_oss"));
  });
  afterAll(async () => {
    model[Symbol.dispose]();
    await device.close();
  });

  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** Takes the most likely tokens; `tokens` has them. */
  function likely(prompt: readonly number[], count: number, more: { signal?: AbortSignal; onToken?: () => void } = {}) {
    const tokens: number[] = [];
    const next = (logits: Float32Array) => {
      const id = logits.indexOf(logits.reduce((most, value) => Math.max(most, value)));
      tokens.push(id);
      more.onToken?.();
      return tokens.length < count ? id : undefined;
    };
    return { prompt, next, tokens, signal: more.signal };
  }

  const prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16]];
  const alone = async (prompt: readonly number[], count: number) => {
    const text = likely(prompt, count);
    await new Engine(model, { running: 1, waiting: 0 }).continue(text);
    return text.tokens;
  };

  test("continues texts together, and others when there is room", async () => {
    const forward = vi.spyOn(model, "forward");
    const engine = new Engine(model, { running: 3, waiting: 2 });
    const texts = prompts.map((prompt, i) => likely(prompt, 4 + i));
    await Promise.all(texts.map((text) => engine.continue(text)));
    const sizes = forward.mock.calls.map(([parts]) => parts.length);
    // The first end after 4, 5 and 6 steps. The fourth is in steps 5 to 11, the last in 6 to 13.
    expect(sizes).toEqual([...Array(6).fill(3), ...Array(5).fill(2), 1, 1]);
    for (const [i, { prompt, tokens }] of texts.entries()) expect(tokens).toEqual(await alone(prompt, 4 + i));
  });

  test("forwards long prompts in pieces, while others go on", async () => {
    const random = new Random("engine");
    const long = Array.from({ length: 600 }, () => Math.floor(random.uniform() * 40));
    using sequence = model.sequence();
    const [whole] = await model.forward([{ sequence, ids: long }]);
    const forward = vi.spyOn(model, "forward");
    const engine = new Engine(model, { running: 3, waiting: 0 });
    const other = likely([1], 3);
    const bits: string[] = [];
    const next = (logits: Float32Array) => {
      bits.push(bitsOf(logits));
      return undefined;
    };
    const texts = [other, { prompt: long, next }, { prompt: long, next }];
    await Promise.all(texts.map((text) => engine.continue(text)));
    const sizes = forward.mock.calls.map(([parts]) => parts.map(({ ids }) => ids.length));
    expect(sizes).toEqual([[1, 256], [1, 256], [1, 88, 168], [256], [176]]);
    expect(bits).toEqual([bitsOf(whole), bitsOf(whole)]);
  });

  test("drops a text whose signal is aborted, also one that waits, and goes on with the others", async () => {
    const engine = new Engine(model, { running: 2, waiting: 1 });
    const [running, waiting] = [new AbortController(), new AbortController()];
    const kept = likely([1, 2, 3], 12, { onToken: () => kept.tokens.length === 4 && running.abort("enough") });
    const dropped = likely([4], 1_000_000, { signal: running.signal });
    const unborn = likely([5], 1_000_000, { signal: waiting.signal });
    const texts = [kept, dropped, unborn].map((text) => engine.continue(text));
    waiting.abort("never mind");
    const [, ...rest] = await Promise.allSettled(texts);
    expect(rest.map((each) => each.status === "rejected" && each.reason)).toEqual(["enough", "never mind"]);
    expect(dropped.tokens.length).toBeLessThan(6);
    expect(unborn.tokens).toEqual([]);
    expect(kept.tokens).toEqual(await alone([1, 2, 3], 12));
  });

  test("refuses a text if as many wait as may", async () => {
    const engine = new Engine(model, { running: 1, waiting: 1 });
    const texts = [1, 2].map((id) => engine.continue(likely([id], 2)));
    const error = await engine.continue(likely([3], 2)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(QueueFullError);
    expect((error as Error).message).toBe(
      "expected at most 1 texts that run and 1 that wait, got one more; try again later",
    );
    await Promise.all(texts);
    await engine.continue(likely([3], 2));
  });

  test("tells all texts of a step its error, and the next ones are computed", async () => {
    await using engine = new Engine(model, { running: 2, waiting: 1 });
    const texts = [likely([1, 2], 3), likely([999], 3), likely([1, 2, 3], 5)];
    const results = await Promise.allSettled(texts.map((text) => engine.continue(text)));
    const codes = results.map((each) => each.status === "rejected" && isMoeError(each.reason) && each.reason.code);
    expect(codes).toEqual(["ID_OUT_OF_RANGE", "ID_OUT_OF_RANGE", false]);
    expect(texts[2]?.tokens).toEqual(await alone([1, 2, 3], 5));
  });

  test("refuses a text without tokens", async () => {
    const engine = new Engine(model, { running: 1, waiting: 0 });
    await expect(engine.continue(likely([], 1))).rejects.toThrow("prompt: expected at least one token, got none");
  });

  test("what a text throws is its own", async () => {
    const engine = new Engine(model, { running: 2, waiting: 0 });
    const wrong = {
      prompt: [1],
      next: () => {
        throw new Error("of one");
      },
    };
    const text = likely([1, 2, 3], 5);
    const results = await Promise.allSettled([engine.continue(wrong), engine.continue(text)]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
    expect(text.tokens).toEqual(await alone([1, 2, 3], 5));
  });

  test("gives back the memory of every text", async () => {
    const made: Sequence[] = [];
    vi.spyOn(model, "sequence").mockImplementation(() => {
      made.push(new Sequence(device, model.config));
      return made.at(-1) as Sequence;
    });
    const engine = new Engine(model, { running: 2, waiting: 2 });
    const texts = [likely([1, 2], 3), likely([999], 3), likely([4], 3)].map((text) => engine.continue(text));
    await Promise.allSettled(texts);
    expect(made).toHaveLength(3);
    for (const { caches } of made) for (const cache of caches) expect(() => cache.keys()).toThrow(/dispose/);
  });
});
