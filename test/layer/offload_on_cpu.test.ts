import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FloatDType, MoeLayer, type Routing, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectRejection } from "../support/errors.js";
import { OffloadedPair, offloadOf } from "../support/offloaded_pair.js";
import { anyLayer, exampleConfig, type LayerProblem } from "../support/random_layer.js";
import { errorWithin, roundingBounds } from "../support/rounding_bounds.js";

const gpus = deviceNames.filter((name) => name !== "reference" && name !== "cpu");
const example: LayerProblem = { config: exampleConfig, tokens: 9, dtype: "f32", seed: 1 };

/** Of outputs that two devices have computed, each from the same tokens, relative to the largest of many outputs. */
const tolerance = { f32: 1e-5, f16: 4e-3, bf16: 3e-2, f64: 1e-12 } as const;

/** Its last tokens' few outputs nearly cancel, and differ by 5 % of the largest. */
const cancelling: LayerProblem = {
  config: {
    hiddenSize: 3,
    intermediateSize: 27,
    numExperts: 4,
    topK: 4,
    scoring: "sparsemixer",
    normalize: false,
    activation: "relu2",
    multiplier: true,
    sharedExpert: { intermediateSize: 82 },
  },
  tokens: 9,
  dtype: "bf16",
  seed: 1481122224,
};

describe.each(gpus)("layers on %s that leave experts to the CPU", (name) => {
  const device = openForTests(name);
  const reference = openForTests("reference");

  async function expectClose(layer: MoeLayer, whole: MoeLayer, x: Tensor<FloatDType>, routing?: Routing) {
    const options = routing === undefined ? {} : { routing };
    using y = layer.forward(x, options);
    using expected = whole.forward(x, options);
    const values = await expected.data();
    if (values.every((value) => value === 0)) expect(await y.data()).toEqual(values);
    else expect(relativeError(await y.data(), values)).toBeLessThanOrEqual(tolerance[x.dtype]);
  }

  test("agree with those that load them, whatever fits", async () => {
    const offloads = anyLayer.chain((problem) =>
      fc.record({
        problem: fc.constant(problem),
        offload: offloadOf(problem.config.numExperts),
        onMiss: fc.constantFrom("cpu" as const, "auto" as const),
      }),
    );
    await fc.assert(
      fc.asyncProperty(offloads, async ({ problem, offload, onMiss }) => {
        using pair = new OffloadedPair(device(), problem, { ...offload, onMiss });
        const { hiddenSize } = problem.config;
        const random = new Random(problem.seed);
        for (const tokens of [problem.tokens, 1, 40, 2]) {
          using x = device().tensor(random.normals(tokens * hiddenSize), [tokens, hiddenSize], pair.whole.x.dtype);
          using y = pair.layer.forward(x);
          using expected = pair.whole.layer.forward(x);
          const { ids, weights } = pair.layer.route(x);
          const routed = { x: await x.data(), ids: await ids.data(), weights: await weights.data() };
          const bounds = roundingBounds(reference(), problem, routed);
          expect(errorWithin(await y.data(), await expected.data(), bounds)).toBeLessThanOrEqual(1);
          ids.dispose();
          weights.dispose();
        }
        const { hits, misses, onCpu, prefetched, expertBytes, loadedBytes } = await pair.offload.stats();
        expect(onCpu).toBeLessThanOrEqual(misses);
        if (onMiss === "cpu") expect(onCpu).toBe(misses);
        expect(loadedBytes).toBe((misses - onCpu + prefetched) * expertBytes);
        expect(hits + misses).toBeGreaterThan(0);
      }),
      { numRuns: 15, examples: [[{ problem: cancelling, offload: { slots: 1 }, onMiss: "cpu" }]] },
    );
  });

  test("auto loads experts of ten rows and more", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 6, onMiss: "auto" });
    const ids = (rows: readonly number[]) => {
      const list = rows.flatMap((count, expert) => new Array<number>(count).fill(expert));
      return { tokens: list.length, ids: device().tensor(Int32Array.from(list), [list.length, 1], "i32") };
    };
    const run = async (rows: readonly number[]) => {
      const { tokens, ids: chosen } = ids(rows);
      using weights = device().tensor(new Float32Array(tokens).fill(0.5), [tokens, 1], "f32");
      using x = device().tensor(new Random(1).normals(tokens * 33), [tokens, 33], "f32");
      await expectClose(pair.layer, pair.whole.layer, x, { ids: chosen, weights });
      chosen.dispose();
      return await pair.offload.stats();
    };
    // Two of the experts with few rows are then loaded for later calls, one after each forward that they were used in.
    expect(await run([9, 10, 0, 30, 3, 0])).toMatchObject({ misses: 4, onCpu: 2, prefetched: 1, resident: [0, 1, 3] });
    expect(await run([1, 1, 1, 1, 1, 1])).toMatchObject({ hits: 3, misses: 7, onCpu: 5, prefetched: 2 });
  });

  test("add shared experts once, weigh choices by a softmax gate, and skip dropped choices", async () => {
    const shared = { intermediateSize: 30 };
    for (const options of [
      { sharedExpert: { ...shared, gate: "softmax" } },
      { sharedExpert: { ...shared, gate: "sigmoid" } },
      { sharedExpert: shared, weightOn: "input" },
    ] as const) {
      const config = { ...exampleConfig, ...options };
      using pair = new OffloadedPair(device(), { ...example, config }, { slots: 1, onMiss: "cpu" });
      const random = new Random(4);
      using x = device().tensor(random.normals(5 * 33), [5, 33], "f32");
      await expectClose(pair.layer, pair.whole.layer, x);
      using ids = device().tensor(Int32Array.of(0, -1, 5, 2, -1, -1, 3, 1, 4, 0), [5, 2], "i32");
      using weights = device().tensor(Float32Array.from(random.normals(10)), [5, 2], "f32");
      await expectClose(pair.layer, pair.whole.layer, x, { ids, weights });
    }
  });

  test("take quantised experts with changed inputs, and banks", async () => {
    const random = new Random(8);
    const matrix = (rows: number, columns: number) => ({
      ...randomQuantized(device(), random, "i4_g32_bf16", [rows, columns]),
      ...randomInputs(device(), random, "both", columns),
    });
    const inputs = () => {
      const gate = matrix(64, 96);
      const { inputScale, inputOrder } = gate;
      const up = { ...randomQuantized(device(), random, "i4_g32_bf16", [64, 96]), inputScale, inputOrder };
      return { gate, up: up as typeof gate, down: matrix(96, 64) };
    };
    const experts = Array.from({ length: 4 }, inputs);
    using router = device().tensor(random.normals(6 * 96, 0.1), [6, 96], "f32");
    const sizes = { hiddenSize: 96, intermediateSize: 64, numExperts: 6, topK: 2, bank: { first: 1, count: 4 } };
    const options = { device: device(), ...sizes, router, experts };
    using layer = MoeLayer.create({ ...options, offload: { slots: 2, onMiss: "cpu" } });
    using whole = MoeLayer.create(options);
    for (const dtype of ["f32", "bf16"] as const) {
      using x = device().tensor(random.normals(7 * 96), [7, 96], dtype);
      await expectClose(layer, whole, x);
    }
    expect((await layer.offload?.stats())?.onCpu).toBeGreaterThan(0);
  });

  test("report ids out of range, and time every stage", async () => {
    using pair = new OffloadedPair(device(), example, { slots: 2, onMiss: "cpu" });
    using ids = device().tensor(Int32Array.of(7, 0), [1, 2], "i32");
    using weights = device().tensor(Float32Array.of(1, 1), [1, 2], "f32");
    using x = pair.whole.x.rows(0, 1);
    pair.layer.forward(x, { routing: { ids, weights } }).dispose();
    await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /forward: ids\[0, 0\]: .*got 7$/);
    await expectClose(pair.layer, pair.whole.layer, pair.whole.x);
    for (const time of Object.values(await pair.layer.stageTimes())) expect(time).toBeNaN();
    await expectClose(pair.layer, pair.whole.layer, pair.whole.x);
    for (const time of Object.values(await pair.layer.stageTimes())) expect(time).toBeGreaterThan(0);
  });
});
