import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/devices.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe.each(deviceNames)("bad arguments of layers on %s", (name) => {
  const device = openForTests(name);
  const zeros = (...shape: number[]) => device().zeros(shape, "f32");

  const options = (): MoeLayerOptions => ({
    device: device(),
    hiddenSize: 4,
    intermediateSize: 3,
    numExperts: 2,
    topK: 1,
    router: zeros(2, 4),
    experts: { gate: zeros(2, 3, 4), up: zeros(2, 3, 4), down: zeros(2, 4, 3) },
  });
  const expert = () => ({ gate: zeros(3, 4), up: zeros(3, 4), down: zeros(4, 3) });
  const create = (changes: object) => () => MoeLayer.create({ ...options(), ...changes });

  test("configurations", () => {
    const bad = (changes: object, message: RegExp) => expectError(create(changes), "INVALID_ARGUMENT", message);
    bad({ intermediateSize: 0 }, /intermediateSize: expected an integer >= 1, got 0/);
    bad({ topK: 3 }, /topK: expected an integer from 1 to 2, got 3/);
    bad({ topK: 0 }, /topK: .*got 0/);
    bad({ activation: "swish" }, /activation: expected one of .*got "swish"/);
    bad({ scoring: "max" }, /scoring: .*got "max"/);
    bad({ dtype: "f8" }, /dtype: .*got "f8"/);
    const chosen = { topK: 2, expertChoice: { tokens: 1 } };
    bad({ ...chosen, selectionKey: "logit" }, /^selectionKey: expected "score" with expertChoice, got "logit"/);
    const sharedExpert = { intermediateSize: 3 };
    const gated = { ...sharedExpert, gate: "sigmoid" };
    bad({ sharedExpert: gated, weightOn: "input" }, /^sharedExpert\.gate "sigmoid" cannot be .*weightOn "input"$/);
    bad({ sharedExpert, outputActivation: "softmax" }, /^sharedExpert cannot be .*outputActivation "softmax"$/);
    bad({ experts: [expert()] }, /experts: expected 2 experts or stacked tensors, got array of length 1/);
    expectError(create({ dtype: "i32" }), "UNSUPPORTED_DTYPE", /dtype: expected f32, f16 or bf16, got i32/);
  });

  test("weights", () => {
    const { gate, up, down } = options().experts as { gate: object; up: object; down: object };
    expectError(create({ router: zeros(2, 5) }), "SHAPE_MISMATCH", /router: expected shape \[2, 4\], got \[2, 5\]/);
    expectError(create({ routerBias: zeros(3) }), "SHAPE_MISMATCH", /routerBias: expected shape \[2\], got \[3\]/);
    expectError(
      create({ experts: { gate, up, down: zeros(2, 3, 4) } }),
      "SHAPE_MISMATCH",
      /experts\.down: expected shape \[2, 4, 3\]/,
    );
    expectError(
      create({ experts: [expert(), { ...expert(), up: zeros(4, 3) }] }),
      "SHAPE_MISMATCH",
      /experts\[1\]\.up: expected shape \[3, 4\]/,
    );
    expectError(
      create({ experts: { up, down } }),
      "INVALID_ARGUMENT",
      /experts\.gate: expected a tensor for activation swiglu, got none/,
    );
    expectError(
      create({ activation: "relu" }),
      "INVALID_ARGUMENT",
      /experts\.gate cannot be combined with activation relu/,
    );
    expectError(
      create({ activation: "relu", experts: { up, down, gateBias: zeros(2, 3) } }),
      "INVALID_ARGUMENT",
      /experts\.gateBias cannot be combined with activation relu/,
    );
    const withShared = { sharedExpert: { intermediateSize: 3 }, shared: expert() };
    for (const others of [{}, withShared]) {
      const message = /^sharedGateBias requires sharedGate$/;
      expectError(create({ ...others, sharedGateBias: zeros(1) }), "INVALID_ARGUMENT", message);
    }
    expectError(
      create({ experts: [expert(), { gate: zeros(3, 4), up: zeros(3, 4) }] }),
      "INVALID_ARGUMENT",
      /experts\[1\]\.down: expected a Tensor/,
    );
    expectError(create({ router: device().zeros([2, 4], "i32") }), "UNSUPPORTED_DTYPE", /router: expected dtype f32/);
    expectError(
      create({ router: new Float32Array(8) }),
      "INVALID_ARGUMENT",
      /^router: expected a Tensor, as device\.tensor\(values, shape\) makes, or { .*, got Float32Array$/,
    );
    const names = "the activation swiglu_clamped, swiglu_clamped_after or situ$";
    expectError(create({ clamp: { limit: 1 } }), "INVALID_ARGUMENT", new RegExp(`^clamp requires ${names}`));
    const sharedExpert = { intermediateSize: 3, clamp: { limit: 1 } };
    expectError(create({ sharedExpert }), "INVALID_ARGUMENT", new RegExp(`^sharedExpert\\.clamp requires ${names}`));
    if (name !== "reference") {
      expectError(create({ dtype: "f64" }), "UNSUPPORTED_DTYPE", /^dtype: .* got "f64" \(reference only\)$/);
    }
    using other = openDevice(name);
    expectError(create({ router: other.zeros([2, 4], "f32") }), "DEVICE_MISMATCH", /router/);
  });

  test("tokens and routing", () => {
    using layer = MoeLayer.create(options());
    expectError(() => layer.forward(zeros(3, 5)), "SHAPE_MISMATCH", /x: expected shape \[T, 4\], got \[3, 5\]/);
    expectError(() => layer.forward(zeros(4)), "SHAPE_MISMATCH", /x: expected shape \[T, 4\], got \[4\]/);
    expectError(() => layer.route(zeros(3, 5)), "SHAPE_MISMATCH", /x/);
    const ids = device().zeros([3, 1], "i32");
    const weights = zeros(3, 1);
    const forward = (changes: object) => () => layer.forward(zeros(3, 4), { routing: { ids, weights, ...changes } });
    const mismatch = (changes: object, message: RegExp) => expectError(forward(changes), "SHAPE_MISMATCH", message);
    mismatch({ ids: device().zeros([2, 1], "i32") }, /routing\.ids: expected shape \[3, k\], got \[2, 1\]/);
    mismatch({ ids: device().zeros([3, 2], "i32") }, /routing\.weights: expected shape \[3, 2\], got \[3, 1\]/);
    mismatch({ weights: zeros(2, 1) }, /routing\.weights: expected shape \[3, 1\]/);
    expectError(forward({ weights: device().zeros([3, 1], "bf16") }), "UNSUPPORTED_DTYPE", /routing\.weights/);
    const x = zeros(3, 4);
    expectError(() => layer.forward(x, { out: x }), "INVALID_ARGUMENT", /out: expected memory of its own/);
    expectError(() => layer.forward(x, { out: zeros(3, 5) }), "SHAPE_MISMATCH", /out/);
    using other = openDevice(name);
    expectError(() => layer.forward(other.zeros([3, 4], "f32")), "DEVICE_MISMATCH", /x: expected a tensor on the same/);
  });

  test("ids out of range: an error at the next wait, and the slot adds nothing", () => {
    const one = device().tensor(new Float32Array(24).fill(1), [2, 3, 4]);
    const down = device().tensor(new Float32Array(24).fill(1), [2, 4, 3]);
    using layer = MoeLayer.create({ ...options(), activation: "none", experts: { up: one, down } });
    const x = device().tensor([
      [1, 0, 0, 0],
      [1, 0, 0, 0],
      [1, 0, 0, 0],
    ]);
    const ids = device().tensor(Int32Array.of(1, 2, -1), [3, 1]);
    const weights = device().tensor([[1], [1], [1]]);
    using y = layer.forward(x, { routing: { ids, weights } });
    expectError(
      () => device().synchronizeSync(),
      "ID_OUT_OF_RANGE",
      /ids\[1, 0\]: expected -1 or an expert from 0 to 1, got 2/,
    );
    expect(y.toArraySync()).toEqual([
      [3, 3, 3, 3],
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
  });

  test("use after dispose() is an error; dispose() again is not", async () => {
    const layer = MoeLayer.create(options());
    layer.dispose();
    layer.dispose();
    expectError(() => layer.forward(zeros(1, 4)), "DISPOSED", /layer: used after dispose/);
    expectError(() => layer.route(zeros(1, 4)), "DISPOSED", /layer/);
    expectError(() => layer.byteLength, "DISPOSED", /layer/);
    await expectRejection(layer.stageTimes(), "DISPOSED", /layer/);
  });
});
