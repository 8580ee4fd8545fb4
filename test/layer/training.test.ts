import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { expertLoad } from "../../lib/operators/noise/expert_load.js";
import { jitter } from "../../lib/operators/noise/jitter.js";
import { noisyLogits } from "../../lib/operators/noise/noisy_logits.js";
import { random } from "../../lib/operators/noise/random.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

const [tokens, hidden, inner, experts] = [21, 33, 17, 6];

/** A layer with random weights, its tokens, and the projection for its noise. */
function randomLayer(device: Device, changes: Partial<MoeLayerOptions>, dtype: FloatDType = "f32") {
  const values = new Random(3);
  const normals = (...shape: number[]) =>
    device.tensor(
      values.normals(
        shape.reduce((a, b) => a * b),
        hidden ** -0.5,
      ),
      shape,
      dtype,
    ) as Tensor<"f32">;
  const noiseRouter = normals(experts, hidden);
  const layer = MoeLayer.create({
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK: 2,
    router: normals(experts, hidden),
    experts: {
      gate: normals(experts, inner, hidden),
      up: normals(experts, inner, hidden),
      down: normals(experts, hidden, inner),
    },
    ...(changes.noisy && { noiseRouter }),
    ...changes,
  });
  const x = device.tensor(values.normals(tokens * hidden), [tokens, hidden], dtype) as Tensor<"f32">;
  const noise = device.tensor(values.normals(tokens * experts), [tokens, experts]);
  return { layer, noiseRouter, x, noise };
}

function expectEqual(actual: { ids: Tensor; weights: Tensor }, expected: { ids: Tensor; weights: Tensor }): void {
  expect(actual.ids.dataSync()).toEqual(expected.ids.dataSync());
  expect(actual.weights.dataSync()).toEqual(expected.weights.dataSync());
}

describe.each(kernelPaths)("a layer in training on $label", (path) => {
  const device = openForTests(path);

  test.each(["f32", "bf16"] as const)("noisy gating in %s is the composition of its operators", (dtype) => {
    const { layer, noiseRouter, x, noise } = randomLayer(device(), { noisy: { epsilon: 0.5 } }, dtype);
    const clean = layer.routerLogits(x);
    const expected = noisyLogits(clean, routerProjection(x, noiseRouter), { noise, epsilon: 0.5 });
    const logits = layer.trainingLogits(x, { noise });
    expect(logits.clean.dataSync()).toEqual(clean.dataSync());
    expect(logits.logits.dataSync()).toEqual(expected.logits.dataSync());
    expect(logits.deviation.dataSync()).toEqual(expected.deviation.dataSync());

    const routing = layer.route(x, { training: { noise } });
    expectEqual(routing, gating(expected.logits, { topK: 2 }));
    const y = layer.forward(x, { training: { noise } });
    expect(y.dataSync()).toEqual(layer.forward(x, { routing }).dataSync());
    const load = expertLoad(clean, logits.logits, logits.deviation, { topK: 2 }).dataSync();
    expect(load.reduce((a, b) => a + b, 0)).toBeGreaterThan(tokens);
  });

  test("a seed determines the noise; another seed gives different noise", () => {
    const { layer, x } = randomLayer(device(), { noisy: {} });
    const noise = random(device(), [tokens, experts], { seed: 8, distribution: "normal" });
    const drawn = layer.route(x, { training: { seed: 8 } });
    expectEqual(drawn, layer.route(x, { training: { noise } }));
    expectEqual(drawn, layer.route(x, { training: { seed: 8n } }));
    expect(layer.route(x, { training: { seed: 9 } }).weights.dataSync()).not.toEqual(drawn.weights.dataSync());
  });

  test("without training there is no noise", () => {
    const { layer: plain, x } = randomLayer(device(), {});
    for (const changes of [{ noisy: {} }, { routerJitter: 0.5 }]) {
      const { layer } = randomLayer(device(), changes);
      expectEqual(layer.route(x), plain.route(x));
      expect(layer.forward(x).dataSync()).toEqual(plain.forward(x).dataSync());
    }
  });

  test("jitter affects only the router", () => {
    const { layer, x } = randomLayer(device(), { routerJitter: 0.5 });
    const training = { seed: 4 };
    const routing = layer.route(x, { training });
    expectEqual(routing, layer.route(jitter(x, { epsilon: 0.5, seed: 4 })));
    expect(layer.forward(x, { training }).dataSync()).toEqual(layer.forward(x, { routing }).dataSync());
    expect(routing.weights.dataSync()).not.toEqual(layer.route(x).weights.dataSync());
  });

  test("capacities and expert choice use the noisy logits", () => {
    const { layer, x } = randomLayer(device(), { noisy: {}, capacity: { tokens: 3 } });
    const { ids } = layer.route(x.reshape([3, 7, hidden]), { training: { seed: 1 } });
    for (let expert = 0; expert < experts; expert++) {
      expect((ids.dataSync() as Int32Array).filter((id) => id === expert).length).toBeLessThanOrEqual(3);
    }
    const choosing = { topK: experts, expertChoice: { tokens: 3 } } as const;
    const { layer: noisy } = randomLayer(device(), { noisy: {}, ...choosing });
    const { weights } = noisy.route(x, { training: { seed: 1 } });
    expect(weights.dataSync()).not.toEqual(noisy.route(x).weights.dataSync());
  });

  test("noiseRouter may be stored inputs first, and the layer owns a copy", () => {
    const { layer, noiseRouter, x, noise } = randomLayer(device(), { noisy: {} });
    const rows = noiseRouter.toArraySync() as number[][];
    const columns = Array.from({ length: hidden }, (_, input) => rows.map((row) => row[input] as number));
    const tensor = device().tensor(columns);
    const { layer: other } = randomLayer(device(), { noisy: {}, noiseRouter: { tensor, orient: "in_out" } });
    tensor.dispose();
    expectEqual(other.route(x, { training: { noise } }), layer.route(x, { training: { noise } }));
    const { layer: plain } = randomLayer(device(), {});
    device().synchronizeSync();
    expect(layer.byteLength).toBe(plain.byteLength + experts * hidden * 4);
  });

  test("bad configurations and arguments", () => {
    const bad = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
    const make = (changes: object) => () => randomLayer(device(), changes);
    const { layer: noisy, noiseRouter, x, noise } = randomLayer(device(), { noisy: {} });
    const { layer: jittered } = randomLayer(device(), { routerJitter: 0.1 });
    const { layer: plain } = randomLayer(device(), {});
    bad(make({ noisy: { epsilon: -1 } }), /noisy\.epsilon: expected a finite number >= 0, got -1/);
    bad(make({ noisy: {}, routerJitter: 0.1 }), /routerJitter cannot be combined with noisy/);
    bad(make({ routerJitter: 1 }), /routerJitter: expected a number from 0 to less than 1, got 1/);
    bad(make({ noiseRouter }), /noiseRouter requires noisy/);
    bad(make({ noisy: {}, noiseRouter: undefined }), /noiseRouter: expected a tensor for noisy, got undefined/);
    const selectionBias = device().zeros([experts], "f32");
    bad(make({ noisy: {}, selectionBias }), /selectionBias cannot be combined with noisy/);
    const shape = device().zeros([experts, hidden + 1], "f32");
    expectError(make({ noisy: {}, noiseRouter: shape }), "SHAPE_MISMATCH", /noiseRouter: expected shape \[6, 33\]/);

    bad(() => plain.forward(x, { training: { seed: 1 } }), /training requires a layer with noisy or routerJitter/);
    bad(() => noisy.route(x, { training: {} as { seed: 1 } }), /training: expected exactly one of seed and noise/);
    bad(() => noisy.route(x, { training: { seed: -1 } }), /training\.seed: expected an integer/);
    bad(() => jittered.route(x, { training: { noise } }), /training\.noise: expected a seed instead, for routerJitter/);
    bad(() => jittered.trainingLogits(x, { seed: 1 }), /trainingLogits requires a layer with noisy/);
    const given = { routing: noisy.route(x), training: { noise } };
    bad(() => noisy.forward(x, given), /training cannot be combined with routing/);
    const rows = { training: { noise: noise.rows(0, 3) } };
    expectError(
      () => noisy.forward(x, rows),
      "SHAPE_MISMATCH",
      /training\.noise: expected shape \[21, 6\], got \[3, 6\]/,
    );
    const out = noise.reshape([tokens, experts]);
    expectError(
      () => noisy.forward(x, { training: { noise }, out }),
      "SHAPE_MISMATCH",
      /out: expected shape \[21, 33\]/,
    );
  });
});
