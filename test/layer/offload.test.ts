import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { TokenFormat } from "../../lib/core/formats/token_format.js";
import type { WeightFormatName } from "../../lib/core/formats/weight_format.js";
import { openDevice } from "../../lib/devices.js";
import type { OffloadOptions } from "../../lib/layer/offload.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { expertsOfBank } from "../support/banks.js";
import { deviceNames, openForTests, withVariable } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";
import { LruSlots } from "../support/lru_slots.js";
import { OffloadedPair, offloadOf } from "../support/offloaded_pair.js";
import { anyLayer, exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";

const gpus = deviceNames.filter((name) => name !== "reference" && name !== "cpu");
const example: LayerProblem = { config: exampleConfig, tokens: 9, dtype: "f32", seed: 1 };
const { numExperts } = exampleConfig;

const anyOffload = anyLayer.chain((problem) =>
  fc.record({ problem: fc.constant(problem), offload: offloadOf(problem.config.numExperts) }),
);

describe.each(gpus)("layers with offload on %s", (name) => {
  const device = openForTests(name);

  test("give the same bits as without, whatever fits", () => {
    fc.assert(
      fc.property(anyOffload, ({ problem, offload }) => {
        using pair = new OffloadedPair(device(), problem, offload);
        const random = new Random(problem.seed);
        for (const tokens of [problem.tokens, 1, 2, problem.tokens]) {
          const { y, expected } = pair.forward(random, tokens);
          expect(y).toEqual(expected);
        }
      }),
      { numRuns: 25 },
    );
  });

  test("give the same bits for no tokens, many tokens, given routings and capacities", () => {
    const config = { ...exampleConfig, sharedExpert: { intermediateSize: 30 }, capacity: { factor: 0.5 } } as const;
    using pair = new OffloadedPair(device(), { ...example, config }, { slots: 2 });
    const random = new Random(3);
    for (const tokens of [0, 600]) {
      const { y, expected } = pair.forward(random, tokens);
      expect(y).toEqual(expected);
    }
    using x = device().tensor(random.normals(3 * config.hiddenSize), [3, config.hiddenSize], "f32");
    using ids = device().tensor(Int32Array.of(5, -1, 2, 2, -1, 4), [3, 2], "i32");
    using weights = device().tensor(Float32Array.of(1, 0, 0.5, 2, 0, -1), [3, 2], "f32");
    using y = pair.layer.forward(x, { routing: { ids, weights } });
    using expected = pair.whole.layer.forward(x, { routing: { ids, weights } });
    expect(y.rawSync()).toEqual(expected.rawSync());
  });

  test.each([
    { format: "i4_g32_bf16", inputs: undefined, shared: undefined },
    { format: "mxfp4", inputs: undefined, shared: "i8_channel_f32" },
    { format: "q4_k", inputs: undefined, shared: "q6_k" },
    { format: "i4_g32_bf16", inputs: "both", shared: undefined },
    { format: "i4_g32_bf16", inputs: "order", shared: "i8_channel_f32" },
    { format: "i8_channel_f32", inputs: undefined, shared: undefined, tokenFormat: "int8" },
    { format: "e4m3_b128_bf16", inputs: undefined, shared: "i4_g32_bf16", tokenFormat: "fp8" },
  ] as const)("give the same bits with experts in $format, inputs: $inputs, shared: $shared", (quantized) => {
    const { format, inputs, shared } = quantized;
    const tokenFormat: TokenFormat = "tokenFormat" in quantized ? quantized.tokenFormat : "none";
    const [hiddenSize, intermediateSize] = [256, 256];
    const random = new Random(JSON.stringify(quantized));
    const matrix = (name: WeightFormatName, rows: number, columns: number, input: object) => ({
      ...randomQuantized(device(), random, name, [rows, columns]),
      ...input,
    });
    const expert = (name: WeightFormatName, changed = inputs) => {
      const [x, inner] = [hiddenSize, intermediateSize].map((columns) =>
        changed === undefined ? {} : randomInputs(device(), random, changed, columns),
      ) as [object, object];
      return {
        gate: matrix(name, intermediateSize, hiddenSize, x),
        up: matrix(name, intermediateSize, hiddenSize, x),
        down: matrix(name, hiddenSize, intermediateSize, inner),
      };
    };
    const experts = Array.from({ length: 5 }, () => expert(format));
    using router = device().tensor(random.normals(5 * hiddenSize, 0.1), [5, hiddenSize], "f32");
    const options = {
      ...{ device: device(), hiddenSize, intermediateSize, numExperts: 5, topK: 2, router, experts },
      tokenFormat,
      ...(shared && { sharedExpert: { intermediateSize }, shared: expert(shared, undefined) }),
    };
    using layer = MoeLayer.create({ ...options, offload: { slots: 2 } });
    using whole = MoeLayer.create(options);
    for (const dtype of ["f32", "bf16"] as const) {
      using x = device().tensor(random.normals(7 * hiddenSize), [7, hiddenSize], dtype);
      using y = layer.forward(x);
      using expected = whole.forward(x);
      expect(y.rawSync()).toEqual(expected.rawSync());
    }
  });

  test("give the same bits as a bank, whose experts keep their ids", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 2 });
    const { experts, ...options } = pair.whole.options;
    const range = { first: 2, count: 4 };
    const bank = { ...options, experts: expertsOfBank(pair.whole.experts, range), bank: range };
    using layer = MoeLayer.create({ ...bank, offload: { slots: 2, pinned: [4] } });
    using whole = MoeLayer.create(bank);
    using y = layer.forward(pair.whole.x);
    using expected = whole.forward(pair.whole.x);
    expect(y.rawSync()).toEqual(expected.rawSync());
    expect((await layer.offload?.stats())?.resident).toContain(4);
    expect(inspect(layer.offload)).toBe(`ExpertOffload of 4 experts on ${device().name}`);
    const refused = () => MoeLayer.create({ ...bank, offload: { slots: 2, pinned: [1] } });
    expectError(refused, "INVALID_ARGUMENT", /^offload\.pinned\[0\]: expected an expert from 2 to 5, got 1$/);
  });

  test("count what an LRU cache of the same routings counts", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 3, policy: "lru" });
    const slots = new LruSlots(3);
    const random = new Random(11);
    for (let call = 0; call < 30; call++) slots.call(pair.forward(random, 1).used);
    const { hits, misses, evictions } = slots;
    const stats = await pair.offload.stats();
    const { expertBytes } = stats;
    expect(stats).toEqual({
      slots: 3,
      expertBytes,
      calls: 30,
      hits,
      misses,
      onCpu: 0,
      prefetched: 0,
      evictions,
      loadedBytes: misses * expertBytes,
      resident: slots.resident,
    });
    expect(Math.min(hits, misses, evictions)).toBeGreaterThan(0);
  });

  test("hold the bytes of their slots instead of those of the experts", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 2 });
    await device().synchronize();
    const { expertBytes } = await pair.offload.stats();
    const saved = pair.whole.layer.byteLength - pair.layer.byteLength;
    expect(saved).toBe((numExperts - 2) * expertBytes);
    const options = { ...pair.whole.options, offload: { bytes: 4 * expertBytes - 1 } };
    using layer = MoeLayer.create(options);
    expect(layer.offload?.slots).toBe(3);
    const tooFew = () => MoeLayer.create({ ...options, offload: { bytes: expertBytes - 1 } });
    expectError(
      tooFew,
      "INVALID_ARGUMENT",
      /^offload\.bytes: expected at least \d+, the bytes of one expert, got \d+$/,
    );
  });

  test("prefetch experts, which are hits then", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 4, pinned: [1] });
    expect(await pair.offload.stats()).toMatchObject({ prefetched: 1, resident: [1] });
    const random = new Random(5);
    const { used } = pair.forward(new Random(5), 1);
    const before = await pair.offload.stats();
    pair.offload.prefetch([...used, -1, ...used]);
    pair.offload.prefetch([0, 2, 3, 4, 5]);
    pair.offload.prefetch(Int32Array.from(used)); // as ids come from a tensor
    const prefetched = await pair.offload.stats();
    expect(prefetched.resident).toEqual(expect.arrayContaining([1, ...used]));
    expect(prefetched.prefetched).toBeGreaterThan(before.prefetched);
    const { y, expected } = pair.forward(random, 1);
    expect(y).toEqual(expected);
    const after = await pair.offload.stats();
    expect(after).toMatchObject({ hits: before.hits + used.length, misses: before.misses });
    expectError(() => pair.offload.prefetch([6]), "INVALID_ARGUMENT", /^ids\[0\]: expected an integer from -1 to 5/);
    expectError(() => pair.offload.prefetch(3 as never), "INVALID_ARGUMENT", /^ids: expected a list, got 3$/);
    const floats = Float32Array.of(1) as never;
    expectError(() => pair.offload.prefetch(floats), "INVALID_ARGUMENT", /^ids: expected a list or an Int32Array, got/);
  });

  test("are captured only if all their experts are resident", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 5 });
    const message = /^capture: expected a layer whose experts are all resident, got one with offload and 5 slots for 6/;
    expectError(() => pair.layer.capture(3), "UNSUPPORTED_OPERATION", message);
    const config = { ...exampleConfig, sharedExpert: { intermediateSize: 30 } };
    using full = new OffloadedPair(device(), { ...example, config }, { slots: 100, policy: "lru" });
    expect(full.offload.slots).toBe(6);
    const random = new Random(2);
    full.forward(random, 1);
    using captured = full.layer.capture(4);
    expect((await full.offload.stats()).resident).toHaveLength(6);
    for (let round = 0; round < 3; round++) {
      const values = random.normals(captured.x.size);
      captured.x.write(values);
      captured.replay();
      using x = device().tensor(values, captured.x.shape, captured.x.dtype);
      using expected = full.whole.layer.forward(x);
      expect(captured.y.rawSync()).toEqual(expected.rawSync());
      const { y, expected: whole } = full.forward(random, 5);
      expect(y).toEqual(whole);
    }
  });

  test("keep working when ids out of range were given", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 2 });
    using ids = device().tensor(Int32Array.of(7, 0), [1, 2], "i32");
    using weights = device().tensor(Float32Array.of(1, 1), [1, 2], "f32");
    using x = pair.whole.x.rows(0, 1);
    pair.layer.forward(x, { routing: { ids, weights } }).dispose();
    await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /forward: ids\[0, 0\]: .*got 7$/);
    const { y, expected } = pair.forward(new Random(1), 9);
    expect(y).toEqual(expected);
  });

  test("run sort, gateUp and down in one call only", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 2 });
    const { x, parts } = pair.whole;
    using y = device().empty(x.shape, x.dtype);
    const handle = device().backend.layer(parts.description, undefined, {
      budget: null,
      slots: 2,
      bytes: 0,
      policy: "lru",
      pinned: [],
      rowsToLoad: 0,
    });
    handle.forward(x.handle, y.handle, null, null, -1, ["router", "gating", "sort", "gateUp"]);
    const message = /^stages: expected sort, gateUp and down in one call of a layer with offload$/;
    await expectRejection(device().synchronize(), "UNSUPPORTED_OPERATION", message);
    handle.free();
  });
});

test.each(["early", "mixed"])("simt: copies whose mode is %s give the same bits", (mode) => {
  using device = withVariable("MOE_SIMT_ASYNC", mode, () => openDevice("simt", { poison: true }));
  using pair = new OffloadedPair(device, example, { slots: 2 });
  for (let call = 0; call < 3; call++) {
    const { y, expected } = pair.forward(new Random(call), 9);
    expect(y).toEqual(expected);
  }
});

describe("offload is refused", () => {
  const create = (name: "simt" | "cpu" | "reference", offload: unknown) => {
    using device = openDevice(name);
    using random = new RandomLayer(device, example);
    MoeLayer.create({ ...random.options, offload: offload as OffloadOptions }).dispose();
  };

  test.each([
    [{}, /^offload: expected either slots, bytes or budget, got none$/],
    [{ slots: 2, bytes: 5 }, /^offload: expected either slots, bytes or budget, got slots and bytes$/],
    [{ slots: 0 }, /^offload\.slots: expected an integer >= 1, got 0$/],
    [{ bytes: 1.5 }, /^offload\.bytes: expected an integer >= 1, got 1.5$/],
    [{ slots: 2, policy: "fifo" }, /^offload\.policy: expected one of "lfru", "lru", "lfu", got "fifo"$/],
    [{ slots: 2, onMiss: "skip" }, /^offload\.onMiss: expected one of "load", "cpu", "auto", got "skip"$/],
    [{ slots: 2, pinned: [1, 1] }, /^offload\.pinned\[1\]: expected every expert once, got 1$/],
    [{ slots: 2, pinned: [6] }, /^offload\.pinned\[0\]: expected an expert from 0 to 5, got 6$/],
    [{ slots: 2, pinned: [4, 5] }, /^offload\.pinned: expected fewer experts than the 2 slots, got 2$/],
    [{ slots: 2, polcy: "lru" }, /^offload: there is no option "polcy"; did you mean "policy"\?$/],
  ])("for %j", (offload, message) => {
    expectError(() => create("simt", offload), "INVALID_ARGUMENT", message);
  });

  test.each(["cpu", "auto"])('on cpu with onMiss "%s"', (onMiss) => {
    const message = new RegExp(`^offload\\.onMiss: expected "load" on cpu, which .*, got "${onMiss}"$`);
    expectError(() => create("cpu", { slots: 2, onMiss }), "INVALID_ARGUMENT", message);
  });

  test("on reference, and on cpu without a cache file", () => {
    expectError(
      () => create("reference", { slots: 2 }),
      "UNSUPPORTED_OPERATION",
      /^offload: expected the device cpu, cuda or simt, got reference/,
    );
    expectError(
      () => create("cpu", { slots: 2 }),
      "UNSUPPORTED_OPERATION",
      /^offload: on cpu the experts must be in a/,
    );
  });
});
