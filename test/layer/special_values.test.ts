import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { SharedGate } from "../../lib/core/layer/shared_gate.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

/** Weights of experts whose output is their bias for every token. */
function constantExperts(device: Device, biases: readonly (readonly number[])[]) {
  const hidden = biases[0]?.length as number;
  return {
    up: device.zeros([biases.length, 1, hidden], "f32"),
    down: device.zeros([biases.length, hidden, 1], "f32"),
    downBias: device.tensor(Float32Array.from(biases.flat()), [biases.length, hidden]),
  };
}

/** A layer whose routed experts output the rows of `outputs`. */
function constantLayer(
  device: Device,
  outputs: readonly (readonly number[])[],
  options: Partial<MoeLayerOptions> = {},
): MoeLayer {
  const hiddenSize = outputs[0]?.length as number;
  const numExperts = outputs.length;
  return MoeLayer.create({
    device,
    hiddenSize,
    intermediateSize: 1,
    numExperts,
    topK: 1,
    activation: "relu",
    router: device.zeros([numExperts, hiddenSize], "f32"),
    experts: constantExperts(device, outputs),
    ...options,
  });
}

/** The layer's output for one token per expert id, each with weight 1. */
function forwardIds(layer: MoeLayer, ids: readonly number[]): number[][] {
  const { device, description } = layer;
  const routing = {
    ids: device.tensor(Int32Array.from(ids), [ids.length, 1]),
    weights: device.tensor(new Float32Array(ids.length).fill(1), [ids.length, 1]),
  };
  using x = device.zeros([ids.length, description.hiddenSize], "f32");
  using y = layer.forward(x, { routing });
  return y.toArraySync() as number[][];
}

describe.each(kernelPaths)("special values in a layer on $label", (path) => {
  const device = openForTests(path);
  const infinity = Number.POSITIVE_INFINITY;

  test("softmax of outputs: NaN is -Infinity, +Infinity takes all in equal shares, all -Infinity gives zeros", () => {
    const outputs = [
      [Number.NaN, 0, 0, -infinity],
      [infinity, Number.NaN, 3, infinity],
      [-infinity, Number.NaN, -infinity, Number.NaN],
    ];
    using layer = constantLayer(device(), outputs, { outputActivation: "softmax" });
    const expected = [
      [0, 0.5, 0.5, 0],
      [0.5, 0, 0, 0.5],
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ];
    // Exponentials may flush results below the smallest normal number to zero.
    const error = relativeError(forwardIds(layer, [0, 1, 2, -1]).flat(), expected.flat());
    expect(error).toBeLessThanOrEqual(1e-37);
  });

  test.each<{ gate: SharedGate; bias: number[]; expected: number }>([
    { gate: "sigmoid", bias: [infinity], expected: 11 },
    { gate: "sigmoid", bias: [-infinity], expected: 1 },
    { gate: "sigmoid", bias: [0], expected: 6 },
    { gate: "sigmoid", bias: [Number.NaN], expected: Number.NaN },
    { gate: "softmax", bias: [0, 0], expected: 5.5 },
    { gate: "softmax", bias: [infinity, 3], expected: 1 },
    { gate: "softmax", bias: [infinity, infinity], expected: 5.5 },
    { gate: "softmax", bias: [Number.NaN, 3], expected: 10 },
    { gate: "softmax", bias: [-infinity, Number.NaN], expected: 0 },
  ])("a $gate of $bias as the gate of the shared expert", ({ gate, bias, expected }) => {
    const { up, down, downBias } = constantExperts(device(), [[10, 10]]);
    using layer = constantLayer(device(), [[1, 1]], {
      sharedExpert: { intermediateSize: 1, gate },
      shared: { up: up.reshape([1, 2]), down: down.reshape([2, 1]), downBias: downBias.reshape([2]) },
      sharedGate: device().zeros([bias.length, 2], "f32"),
      sharedGateBias: device().tensor(Float32Array.from(bias)),
    });
    expect(forwardIds(layer, [0])).toEqual([[expected, expected]]);
  });

  test("the number of a shared expert is not an id: an error at the next wait, and the slot adds nothing", () => {
    const { up, down, downBias } = constantExperts(device(), [[10, 10]]);
    using layer = constantLayer(device(), [[1, 1]], {
      sharedExpert: { intermediateSize: 1 },
      shared: { up: up.reshape([1, 2]), down: down.reshape([2, 1]), downBias: downBias.reshape([2]) },
    });
    using x = device().zeros([2, 2], "f32");
    const ids = device().tensor(Int32Array.of(0, 1), [2, 1]);
    const weights = device().tensor(Float32Array.of(1, 1), [2, 1]);
    using y = layer.forward(x, { routing: { ids, weights } });
    const expected = /ids\[1, 0\]: expected -1 or an expert from 0 to 0, got 1/;
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", expected);
    expect(y.toArraySync()).toEqual([
      [11, 11],
      [10, 10],
    ]);
  });
});
