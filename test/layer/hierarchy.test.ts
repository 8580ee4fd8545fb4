import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { Gating } from "../../lib/core/layer/routing_rule.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { expertLoad } from "../../lib/operators/noise/expert_load.js";
import { jitter } from "../../lib/operators/noise/jitter.js";
import { noisyLogits } from "../../lib/operators/noise/noisy_logits.js";
import { random } from "../../lib/operators/noise/random.js";
import type { Routing } from "../../lib/operators/routing/gating.js";
import { type HierarchicalGatingOptions, hierarchicalGating } from "../../lib/operators/routing/hierarchical_gating.js";
import { limitCapacity } from "../../lib/operators/routing/limit_capacity.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

const [tokens, hidden, inner] = [21, 33, 17];
const [experts, groups] = [12, 4];
const hierarchy = { numGroups: groups, topK: 2 } as const;

/** A layer with random weights whose experts are chosen by groups, its routers and its tokens. */
function randomLayer(device: Device, changes: Partial<MoeLayerOptions> = {}, dtype: FloatDType = "f32") {
  const values = new Random(3);
  const normals = (shape: Shape, deviation = hidden ** -0.5) =>
    device.tensor(values.normals(shapeSize(shape), deviation), shape, dtype);
  const count = changes.numExperts ?? experts;
  const numGroups = changes.hierarchy?.numGroups ?? groups;
  const routers = {
    router: normals([count, hidden]),
    groupRouter: normals([numGroups, hidden]),
    groupRouterBias: normals([numGroups]),
    noiseRouter: normals([count, hidden]),
    groupNoiseRouter: normals([numGroups, hidden]),
  };
  const { noiseRouter, groupNoiseRouter, ...plain } = routers;
  const layer = MoeLayer.create({
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK: 6,
    hierarchy,
    experts: {
      gate: normals([count, inner, hidden]),
      up: normals([count, inner, hidden]),
      down: normals([count, hidden, inner]),
    },
    ...plain,
    ...(changes.noisy && { noiseRouter, groupNoiseRouter }),
    ...changes,
  });
  return { layer, x: normals([tokens, hidden], 1) as Tensor<"f32">, ...routers };
}

function expectEqual(actual: Routing, expected: Routing): void {
  expect(actual.ids.toArraySync()).toEqual(expected.ids.toArraySync());
  expect(actual.weights.toArraySync()).toEqual(expected.weights.toArraySync());
}

const rule = { groups: { topK: 2 }, experts: { topK: 3 } } as const;

describe.each(kernelPaths)("a layer with a hierarchy on $label", (path) => {
  const device = openForTests(path);

  test.each(["f32", "bf16"] as const)("in %s is the composition of its operators", (dtype) => {
    const { layer, x, router, groupRouter, groupRouterBias } = randomLayer(device(), {}, dtype);
    const groupLogits = routerProjection(x, groupRouter, { bias: groupRouterBias });
    const logits = routerProjection(x, router);
    expect(layer.groupLogits(x).dataSync()).toEqual(groupLogits.dataSync());
    const routing = hierarchicalGating(groupLogits, layer.routerLogits(x), rule);
    expect(routing.ids.shape).toEqual([tokens, 6]);
    expectEqual(layer.route(x), routing);
    expect(layer.routerLogits(x).shape).toEqual(logits.shape);
    expect(layer.forward(x).dataSync()).toEqual(layer.forward(x, { routing }).dataSync());
  });

  test("takes any rules for both gates", () => {
    const anyRule = fc.record({
      scoring: fc.constantFrom("softmax" as const, "softmax_selected" as const, "sigmoid" as const),
      normalize: fc.boolean(),
      scale: fc.constantFrom(1, 2.5),
    });
    const anyProblem = fc.record({
      numGroups: fc.integer({ min: 1, max: 5 }),
      size: fc.integer({ min: 1, max: 4 }),
      seed: fc.integer({ min: 0, max: 99 }),
      first: anyRule,
      second: anyRule,
    });
    fc.assert(
      fc.property(anyProblem, ({ numGroups, size, seed, first, second }) => {
        const [k1, k2] = [1 + (seed % numGroups), 1 + (seed % size)];
        const options: HierarchicalGatingOptions = {
          groups: { ...first, topK: k1 },
          experts: { ...second, topK: k2 },
        };
        const { layer, x } = randomLayer(device(), {
          ...second,
          numExperts: numGroups * size,
          topK: k1 * k2,
          hierarchy: { numGroups, ...options.groups },
        });
        expectEqual(layer.route(x), hierarchicalGating(layer.groupLogits(x), layer.routerLogits(x), options));
        layer.dispose();
      }),
      { numRuns: 25 },
    );
  });

  test("takes noise for both gates, given or from a seed", () => {
    const { layer, x, noiseRouter, groupNoiseRouter } = randomLayer(device(), { noisy: { epsilon: 0.5 } });
    const normals = (shape: Shape, offset: number) =>
      random(device(), shape, { seed: 8, distribution: "normal", offset });
    const noise = normals([tokens, experts], 0);
    const groupNoise = normals([tokens, groups], tokens * experts);
    const noisy = (clean: Tensor<"f32">, spread: Tensor<FloatDType>, given: Tensor<"f32">) =>
      noisyLogits(clean, routerProjection(x, spread), { noise: given, epsilon: 0.5 });
    const first = noisy(layer.groupLogits(x), groupNoiseRouter, groupNoise);
    const second = noisy(layer.routerLogits(x), noiseRouter, noise);

    const logits = layer.trainingLogits(x, { noise, groupNoise });
    expect(logits.logits.dataSync()).toEqual(second.logits.dataSync());
    expect(logits.groups?.logits.dataSync()).toEqual(first.logits.dataSync());
    expect(logits.groups?.deviation.dataSync()).toEqual(first.deviation.dataSync());
    const routing = hierarchicalGating(first.logits, second.logits, rule);
    for (const training of [{ noise, groupNoise }, { seed: 8 }]) {
      expectEqual(layer.route(x, { training }), routing);
      expect(layer.forward(x, { training }).dataSync()).toEqual(layer.forward(x, { routing }).dataSync());
    }
    expectEqual(layer.route(x), hierarchicalGating(layer.groupLogits(x), layer.routerLogits(x), rule));
  });

  test("its load adds up to what tokens choose, if every choice is certain", () => {
    const { layer, x } = randomLayer(device(), {
      noisy: { epsilon: 1e-6 },
      topK: 12,
      hierarchy: { numGroups: 4, topK: 4 },
    });
    const { groups: first, clean, logits, deviation } = layer.trainingLogits(x, { seed: 2 });
    if (first === undefined) throw new Error("no logits of the groups");
    const load = expertLoad(first.clean, first.logits, first.deviation, { topK: 4 });
    const ids = device().tensor(
      Int32Array.from({ length: tokens * 4 }, (_, slot) => slot % 4),
      [tokens, 4],
    );
    const all = expertLoad(clean, logits, deviation, { topK: 3, groups: { ids, load } });
    expect(all.toArraySync()).toEqual(new Array(experts).fill(tokens));
  });

  test("capacity and jitter come after it and before it", () => {
    const { layer: plain, x } = randomLayer(device());
    const { layer: limited } = randomLayer(device(), { capacity: { tokens: 4 } });
    expectEqual(limited.route(x), limitCapacity(plain.route(x), { tokens: 4, numExperts: experts }));
    const { layer: jittered } = randomLayer(device(), { routerJitter: 0.5 });
    expectEqual(jittered.route(x, { training: { seed: 4 } }), plain.route(jitter(x, { epsilon: 0.5, seed: 4 })));
  });

  test("captured forwards give the same bits as forward", () => {
    const { layer, x } = randomLayer(device(), { capacity: { factor: 1 } });
    using captured = layer.capture(tokens);
    for (const sign of [1, -1]) {
      const values = (x.dataSync() as Float32Array).map((value) => sign * value);
      captured.x.write(values);
      captured.replay();
      const y = layer.forward(device().tensor(values, x.shape));
      expect(captured.y.dataSync()).toEqual(y.dataSync());
    }
  });

  test("owns copies of its routers and counts their bytes", () => {
    const { layer, x, groupRouter } = randomLayer(device());
    const before = layer.route(x);
    const kept = before.weights.toArraySync();
    const columns = device().tensor(transposed(groupRouter));
    groupRouter.write(new Float32Array(groups * hidden));
    expect(layer.route(x).weights.toArraySync()).toEqual(kept);
    const { layer: other } = randomLayer(device(), { groupRouter: { tensor: columns, orient: "in_out" } });
    expectEqual(other.route(x), before);
    const { layer: noisy } = randomLayer(device(), { noisy: {} });
    device().synchronizeSync();
    expect(noisy.byteLength - layer.byteLength).toBe(4 * (experts + groups) * hidden);
    const rule: Gating | undefined = layer.description.hierarchy?.experts;
    expect(rule?.topK).toBe(3);
  });

  test("what makes no sense is refused", () => {
    const bad = (changes: object, message: RegExp) =>
      expectError(() => randomLayer(device(), changes), "INVALID_ARGUMENT", message);
    bad({ hierarchy: true }, /hierarchy: expected an object such as/);
    bad({ hierarchy: { numGroups: 5, topK: 2 } }, /hierarchy\.numGroups: expected a divisor of 12 experts, got 5/);
    bad({ hierarchy: { numGroups: 4, topK: 5 } }, /hierarchy\.topK: expected an integer from 1 to 4, got 5/);
    bad({ hierarchy: { ...hierarchy, scoring: "tanh" } }, /hierarchy\.scoring: expected one of/);
    bad({ topK: 5 }, /topK: expected a multiple of hierarchy\.topK 2 up to 6, .* chosen group of 3 experts, got 5/);
    bad({ topK: 8 }, /topK: expected a multiple of hierarchy\.topK 2 up to 6/);
    bad({ groupRouter: undefined }, /groupRouter: expected a tensor for hierarchy, got undefined/);
    bad({ noisy: {}, groupNoiseRouter: undefined }, /groupNoiseRouter: expected a tensor for noisy and hierarchy/);
    const { layer, x, groupNoiseRouter, router } = randomLayer(device(), { noisy: {} });
    bad({ groupNoiseRouter }, /groupNoiseRouter requires noisy and hierarchy/);
    bad({ selectionBias: device().zeros([experts], "f32") }, /selectionBias cannot be combined with hierarchy/);
    expectError(
      () => randomLayer(device(), { groupRouter: router }),
      "SHAPE_MISMATCH",
      /groupRouter: expected shape \[4, 33\], got \[12, 33\]/,
    );
    const noise = device().zeros([tokens, experts], "f32");
    expectError(
      () => layer.route(x, { training: { noise } }),
      "INVALID_ARGUMENT",
      /training\.groupNoise: expected a Tensor/,
    );
    const groupNoise = device().zeros([tokens, groups], "f32");
    const both = { seed: 1, groupNoise } as unknown as { seed: 1 };
    expectError(
      () => layer.route(x, { training: both }),
      "INVALID_ARGUMENT",
      /training\.groupNoise requires training\.noise and/,
    );
    const none: object = { hierarchy: undefined, groupRouter: undefined, groupRouterBias: undefined };
    const { layer: flat } = randomLayer(device(), none);
    expectError(() => flat.groupLogits(x), "INVALID_ARGUMENT", /groupLogits requires a layer with hierarchy/);
  });
});

function transposed(matrix: Tensor<FloatDType>): number[][] {
  const rows = matrix.toArraySync() as number[][];
  return (rows[0] as number[]).map((_, column) => rows.map((row) => row[column] as number));
}
