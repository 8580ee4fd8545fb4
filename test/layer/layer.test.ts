import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { decodeHalves, encodeHalves } from "../../lib/core/tensors/half_arrays.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { openDevice } from "../../lib/devices.js";
import { expertShapes } from "../../lib/layer/weights/expert_weights.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { combine } from "../../lib/operators/experts/combine.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { relativeError } from "../../lib/testing/difference.js";
import { deviceNames, kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { anyLayer, anyPlainLayer, exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";
import { errorWithin, roundingBounds } from "../support/rounding_bounds.js";

const runs = { numRuns: 30 };

/** The stored bits of the layer's output and routing for rows begin .. end of its tokens. */
function bits({ layer, x }: RandomLayer, begin = 0, end = x.shape[0] as number) {
  using tokens = x.rows(begin, end);
  using y = layer.forward(tokens);
  const { ids, weights } = layer.route(tokens);
  using logits = layer.routerLogits(tokens);
  const result = {
    y: [...y.rawSync()],
    ids: [...ids.rawSync()],
    weights: [...weights.rawSync()],
    logits: [...logits.rawSync()],
  };
  ids.dispose();
  weights.dispose();
  return result;
}

describe.each(kernelPaths)("a layer on $label", (path) => {
  const device = openForTests(path);
  const reference = openForTests("reference");

  test("equals its operators one by one", () => {
    fc.assert(
      fc.property(anyPlainLayer, (problem) => {
        using random = new RandomLayer(device(), problem);
        const { layer, x } = random;
        const { hiddenSize: _hidden, intermediateSize: _inner, activation, numExperts, ...rule } = problem.config;
        const logits = routerProjection(x, random.router);
        expect(relativeError(layer.routerLogits(x).dataSync(), logits.dataSync(), 1)).toBeLessThanOrEqual(1e-5);
        const { ids, weights } = gating(logits, rule);
        const routed = layer.route(x);
        expect(routed.ids.dataSync()).toEqual(ids.dataSync());
        expect(relativeError(routed.weights.dataSync(), weights.dataSync())).toBeLessThanOrEqual(3e-6);

        const { offsets, tokenOfRow, rowOfSlot } = sort(ids, { numExperts });
        const inner = groupedGemm(x, random.gateUp(), offsets, { activation, tokenOfRow });
        const expected = combine(groupedGemm(inner, random.experts.down, offsets), rowOfSlot, weights);
        using y = layer.forward(x);
        const routing = { x: x.dataSync(), ids: ids.dataSync(), weights: weights.dataSync() };
        const bounds = roundingBounds(reference(), problem, routing);
        expect(errorWithin(y.dataSync(), expected.dataSync(), bounds)).toBeLessThanOrEqual(1);
        using again = layer.forward(x, { routing: { ids, weights } });
        expect(errorWithin(again.dataSync(), expected.dataSync(), bounds)).toBeLessThanOrEqual(1);
      }),
      runs,
    );
  });

  test("computes the same as reference, whatever parts it has", () => {
    fc.assert(
      fc.property(anyLayer, (problem) => {
        using expected = new RandomLayer(reference(), problem);
        using random = new RandomLayer(device(), problem);
        const { ids, weights } = expected.layer.route(expected.x);
        const routing = {
          ids: device().tensor(ids.dataSync(), ids.shape),
          weights: device().tensor(weights.dataSync(), weights.shape),
        };
        using wanted = expected.layer.forward(expected.x, { routing: { ids, weights } });
        using y = random.layer.forward(random.x, { routing });
        const given = { x: expected.x.dataSync(), ids: ids.dataSync(), weights: weights.dataSync() };
        const bounds = roundingBounds(reference(), problem, given);
        expect(errorWithin(y.dataSync(), wanted.dataSync(), bounds)).toBeLessThanOrEqual(1);
        using wantedLogits = expected.layer.routerLogits(expected.x);
        using logits = random.layer.routerLogits(random.x);
        expect(relativeError(logits.dataSync(), wantedLogits.dataSync(), 1)).toBeLessThanOrEqual(1e-5);
      }),
      { numRuns: 100 },
    );
  });

  test("gives the same bits on every run", () => {
    fc.assert(
      fc.property(anyLayer, (problem) => {
        using random = new RandomLayer(device(), problem);
        const first = bits(random);
        for (let run = 0; run < 3; run++) expect(bits(random)).toEqual(first);
      }),
      runs,
    );
  });

  test("gives a token the same bits alone, in halves and together", () => {
    fc.assert(
      fc.property(anyLayer, (problem) => {
        using random = new RandomLayer(device(), problem);
        const together = bits(random);
        const half = Math.floor(problem.tokens / 2);
        const halves = [bits(random, 0, half), bits(random, half)];
        const alone = Array.from({ length: problem.tokens }, (_, token) => bits(random, token, token + 1));
        for (const parts of [halves, alone]) {
          for (const name of ["y", "ids", "weights", "logits"] as const) {
            expect(parts.flatMap((part) => part[name])).toEqual(together[name]);
          }
        }
      }),
      runs,
    );
  });

  test("gives the same bits with 1, 2 and 3 threads", () => {
    const devices = [1, 2, 3].map((threads) => path.open({ poison: true, threads }));
    const on = (problem: LayerProblem) => (target: Device) => {
      using random = new RandomLayer(target, problem);
      return bits(random);
    };
    try {
      fc.assert(
        fc.property(anyLayer, (problem) => {
          const [one, two, three] = devices.map(on(problem));
          expect(two).toEqual(one);
          expect(three).toEqual(one);
        }),
        runs,
      );
    } finally {
      for (const opened of devices) opened.dispose();
    }
  });

  const example: LayerProblem = {
    config: exampleConfig,
    tokens: 9,
    dtype: "f32",
    seed: 7,
  };

  test("a NaN token does not change the other tokens' bits", () => {
    using random = new RandomLayer(device(), example);
    const before = bits(random).y;
    const { hiddenSize } = example.config;
    const values = random.x.dataSync().fill(Number.NaN, 3 * hiddenSize, 4 * hiddenSize);
    using x = device().tensor(values, random.x.shape);
    const after = [...random.layer.forward(x).rawSync()];
    for (const token of [0, 1, 2, 4, 5, 6, 7, 8]) {
      const range = [token * hiddenSize, (token + 1) * hiddenSize] as const;
      expect(after.slice(...range)).toEqual(before.slice(...range));
    }
    const { ids, weights } = random.layer.route(x);
    expect(new Set(ids.dataSync().slice(6, 8)).size).toBe(2);
    expect([...weights.dataSync().slice(6, 8)]).toEqual([0, 0]);
  });

  test("keeps its weights after the tensors it was made from are disposed of", () => {
    using random = new RandomLayer(device(), example);
    const before = bits(random);
    random.disposeWeights();
    expect(bits(random)).toEqual(before);
  });

  test("takes a list of experts as well as stacked ones", () => {
    using random = new RandomLayer(device(), example);
    const { numExperts, hiddenSize, intermediateSize } = example.config;
    const shapes = expertShapes(hiddenSize, intermediateSize);
    const slice = (role: "gate" | "up" | "down", expert: number) => {
      using row = (random.experts[role] as Tensor<FloatDType>).rows(expert, expert + 1);
      return row.reshape(shapes[role]);
    };
    const list = Array.from({ length: numExperts }, (_, expert) => ({
      gate: slice("gate", expert),
      up: slice("up", expert),
      down: slice("down", expert),
    }));
    using layer = MoeLayer.create({ ...example.config, device: device(), router: random.router, experts: list });
    using y = layer.forward(random.x);
    expect([...y.rawSync()]).toEqual(bits(random).y);
  });

  test("writes into `out`, also into rows of a larger tensor", () => {
    using random = new RandomLayer(device(), example);
    using large = device().zeros([11, 33], "f32");
    using out = large.rows(1, 10);
    expect(random.layer.forward(random.x, { out })).toBe(out);
    const values = [...large.dataSync()];
    expect(values.slice(33, 330)).toEqual(bits(random).y);
    expect([...values.slice(0, 33), ...values.slice(330)].every((value) => value === 0)).toBe(true);
  });

  test("reports the bytes of its weights and the time of every stage", async () => {
    using random = new RandomLayer(device(), example);
    const { hiddenSize: hidden, intermediateSize: inner, numExperts: experts } = example.config;
    expect(random.layer.byteLength).toBeGreaterThanOrEqual(4 * experts * (hidden + 3 * inner * hidden));
    random.layer.forward(random.x).dispose();
    const before = await random.layer.stageTimes();
    if (device().name !== "cpu" && device().name !== "reference") {
      expect(Object.values(before)).toEqual(new Array(6).fill(Number.NaN));
    }
    random.layer.forward(random.x).dispose();
    const times = await random.layer.stageTimes();
    expect(Object.keys(times).sort()).toEqual(["combine", "down", "gateUp", "gating", "router", "sort"]);
    for (const time of Object.values(times)) expect(time).toBeGreaterThanOrEqual(0);
    expect(times.gateUp + times.down).toBeGreaterThan(0);
  });
});

test("biases are rounded to the layer's dtype on every device", () => {
  const value = 1.001;
  for (const dtype of ["bf16", "f16"] as const) {
    const outputs = deviceNames.map((name) => {
      using device = openDevice(name);
      const zeros = (...shape: number[]) => device.zeros(shape, "f32");
      using layer = MoeLayer.create({
        ...{ device, dtype, hiddenSize: 4, intermediateSize: 3, numExperts: 2, topK: 1 },
        ...{ router: zeros(2, 4), routerBias: device.tensor([value, 1]) },
        experts: Array.from({ length: 2 }, () => ({
          ...{ gate: zeros(3, 4), up: zeros(3, 4), down: zeros(4, 3), downBias: device.tensor([value, 1, -value, 3]) },
        })),
      });
      const { y, logits } = layer.forward(zeros(1, 4), { want: ["logits"] });
      return [...logits.dataSync(), ...y.dataSync()];
    });
    const rounded = decodeHalves(encodeHalves(Float32Array.of(value), dtype), dtype)[0];
    for (const output of outputs) {
      expect(output.slice(0, 2)).toEqual([rounded, 1]);
      expect(output).toEqual(outputs[0]);
    }
  }
});

describe("a layer on cpu, which works through 32768 rows at once,", () => {
  const device = openForTests("cpu");

  test("gives the same bits and errors for more", () => {
    const sharedExpert = { intermediateSize: 3, gate: "sigmoid" } as const;
    const config = { ...exampleConfig, hiddenSize: 4, intermediateSize: 2, sharedExpert };
    const tokens = 9000;
    using random = new RandomLayer(device(), { config, tokens, dtype: "f32", seed: 3, biases: true });
    const { layer, x } = random;
    const together = bits(random);
    const parts = [bits(random, 0, 100), bits(random, 100)];
    for (const name of ["y", "ids", "weights", "logits"] as const) {
      expect(parts.flatMap((part) => part[name])).toEqual(together[name]);
    }
    const ids = device().tensor(Int32Array.from(together.ids).fill(6, 2 * 8500), [tokens, 2]);
    const weights = device().zeros([tokens, 2], "f32");
    layer.forward(x, { routing: { ids, weights } }).dispose();
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", /ids\[8500, 0\]: .* from 0 to 5, got 6/);
  });
});
