import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import {
  type FloatDType,
  type ForwardResult,
  type LayerState,
  type LayerTensors,
  loadBalancingLoss,
  MoeLayer,
  openDevice,
  SGD,
  type Tensor,
  zLoss,
} from "../../../lib/index.js";
import { expertsWithWeights } from "../../../lib/layer/description/identity_experts.js";
import type { ForwardOptions } from "../../../lib/layer/forward/forward_options.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { dot } from "../../support/central_differences.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";
import { expectGradients, layerGradientError } from "../../support/layer_gradients.js";
import { anyLayer, exampleConfig, type LayerProblem, RandomLayer } from "../../support/random_layer.js";

const reference = openDevice("reference");
/** The layer of a problem in float64. */
function float64Layer(problem: LayerProblem): RandomLayer {
  return new RandomLayer(reference, { ...problem, dtype: "f64" });
}

// Its estimator is no derivative; a piecewise linear function has none where its pieces meet.
const smooth = anyLayer.filter(
  ({ config }) =>
    config.scoring !== "sparsemixer" && !["relu", "swiglu_clamped", "swiglu_clamped_after"].includes(config.activation),
);

test("the gradients of any layer are its derivatives", () => {
  fc.assert(
    fc.property(smooth, (problem) => {
      using made = float64Layer({ ...problem, tokens: Math.min(problem.tokens, 6) });
      expectGradients(made.layer, made.x as Tensor<"f32">, new Random(problem.seed));
    }),
    { numRuns: 40 },
  );
});

test("a gradient of another kind of float than the layer's is refused", () => {
  using made = float64Layer({ config: exampleConfig, tokens: 2, dtype: "f64", seed: 1 });
  using state = made.layer.forward(made.x, { save: true }).state;
  using dy = reference.zeros(made.x.shape, "f32");
  expectError(() => made.layer.backward(state, dy), "UNSUPPORTED_DTYPE", /^dy: expected f64 for .*f64, got f32$/);
});

const small = { ...exampleConfig, hiddenSize: 12, intermediateSize: 7 };
const noise = { noisy: {}, scoring: "softmax_selected" as const, normalize: false };

/** Layers with what `anyLayer` has not. */
const features: readonly (LayerProblem["config"] & { training?: true; sequences?: number; given?: true })[] = [
  { ...small, activation: "situ", sharedExpert: { intermediateSize: 9, clamp: { limit: 0.5, upLimit: 0.8 } } },
  { ...small, capacity: { tokens: 3 } },
  { ...small, capacity: { factor: 0.7, drop: "probability", renormalize: true } },
  { ...small, capacity: { factor: 0.7, per: "sequence", renormalize: { by: "chosen", scale: 2 } }, sequences: 3 },
  { ...small, topK: 6, normalize: false, expertChoice: { factor: 2 } },
  { ...small, topK: 6, normalize: false, expertChoice: { tokens: 4 }, scoring: "sigmoid" },
  { ...small, ...noise, training: true },
  { ...small, ...noise, capacity: { factor: 1 }, training: true },
  { ...small, routerJitter: 0.2, training: true },
  { ...small, topK: 4, hierarchy: { numGroups: 3, topK: 2 } },
  {
    ...small,
    topK: 2,
    hierarchy: { numGroups: 2, topK: 1, scoring: "sigmoid" },
    sharedExpert: { intermediateSize: 9 },
  },
  { ...small, ...noise, topK: 4, hierarchy: { numGroups: 3, topK: 2 }, training: true },
  { ...small, separateRouterInput: true },
  { ...small, routerNorm: { epsilon: 0.1, scale: 0.7 } },
  { ...small, perExpertScale: true, capacity: { factor: 0.8, renormalize: true } },
  { ...small, topK: 6, normalize: false, perExpertScale: true, expertChoice: { factor: 2 } },
  { ...small, separateRouterInput: true, routerNorm: {}, perExpertScale: true, sequences: 3 },
  {
    ...small,
    ...noise,
    ...{ topK: 4, hierarchy: { numGroups: 3, topK: 2 }, capacity: { factor: 1 } },
    ...{ separateRouterInput: true, routerNorm: { epsilon: 0.1 }, perExpertScale: true, training: true },
  },
  { ...small, hashRouting: { vocabularySize: 4 }, scoring: "sqrt_softplus" },
  {
    ...small,
    ...{ hashRouting: { vocabularySize: 4 }, capacity: { factor: 0.7, renormalize: true }, perExpertScale: true },
    ...{ separateRouterInput: true, routerNorm: {}, routerJitter: 0.2, training: true, sequences: 3 },
  },
  { ...small, given: true },
  { ...small, scoring: "softmax_selected", normalize: false, sequences: 3, given: true },
  { ...small, ...noise, capacity: { factor: 1 }, training: true, given: true },
  {
    ...small,
    ...{ capacity: { factor: 0.7, renormalize: { by: "chosen" } }, perExpertScale: true, identityExperts: 2 },
    ...{ separateRouterInput: true, routerNorm: {}, routerJitter: 0.2, training: true, sequences: 3, given: true },
  },
  { ...small, separateRouterInput: true, routerNorm: { scale: 3 }, routerJitter: 0.2, training: true },
  { ...small, identityExperts: 2 },
  { ...small, identityExperts: 2, weightOn: "input", scale: 1.5, sharedExpert: { intermediateSize: 9 } },
  { ...small, topK: 6, normalize: false, identityExperts: 3, expertChoice: { factor: 1 }, sequences: 3 },
  { ...small, latent: { size: 5 } },
  { ...small, latent: { size: 5, norm: { epsilon: 0.1 } }, sharedExpert: { intermediateSize: 9 }, sequences: 3 },
  { ...small, ...noise, latent: { size: 15, norm: {} }, sharedExpert: { intermediateSize: 7 }, training: true },
];

test.each(features)("the gradients of %o are its derivatives", ({ training, sequences, given, ...config }) => {
  const random = new Random(JSON.stringify(config));
  const { numExperts, hiddenSize, intermediateSize, hierarchy, noisy, sharedExpert } = config;
  const { separateRouterInput, routerNorm, perExpertScale, latent, hashRouting } = config;
  const draw = (...shape: number[]) => float64(reference, normals(random, shapeSize(shape), 0.5), shape);
  const expert = (hidden: number, width: number, ...stack: number[]) => ({
    gate: draw(...stack, width, hidden),
    up: draw(...stack, width, hidden),
    down: draw(...stack, hidden, width),
  });
  using layer = MoeLayer.create({
    ...config,
    device: reference,
    router: draw(numExperts, hiddenSize),
    experts: expert(latent?.size ?? hiddenSize, intermediateSize, expertsWithWeights(config)),
    ...(latent && { latentDown: draw(latent.size, hiddenSize), latentUp: draw(hiddenSize, latent.size) }),
    ...(latent?.norm && { latentNormWeight: draw(latent.size) }),
    ...(noisy && { noiseRouter: draw(numExperts, hiddenSize) }),
    ...(hierarchy && {
      groupRouter: draw(hierarchy.numGroups, hiddenSize),
      groupRouterBias: draw(hierarchy.numGroups),
    }),
    ...(hierarchy && noisy && { groupNoiseRouter: draw(hierarchy.numGroups, hiddenSize) }),
    ...(sharedExpert && { shared: expert(hiddenSize, sharedExpert.intermediateSize) }),
    ...(routerNorm && { routerNormWeight: draw(hiddenSize) }),
    ...(perExpertScale && { expertScale: draw(numExperts) }),
    ...(hashRouting && {
      expertTable: reference.tensor(
        Array.from({ length: hashRouting.vocabularySize }, () => random.sample(config.topK, numExperts)),
        [hashRouting.vocabularySize, config.topK],
        "i32",
      ),
    }),
  });
  const tokens = () => (sequences ? draw(sequences, 3, hiddenSize) : draw(9, hiddenSize));
  const forward = {
    ...(training && { training: { seed: 7 } }),
    ...(separateRouterInput && { routerInput: tokens() }),
    ...(hashRouting && { tokenIds: Array.from({ length: 9 }, () => random.integer(-1, 3)) }),
    ...(given && {
      expertIds: reference.tensor(
        Int32Array.from({ length: 9 * config.topK }, () => random.integer(-1, numExperts - 1)),
        [9, config.topK],
      ),
    }),
  };
  expectGradients(layer, tokens(), random, { forward });
});

test("losses are added to the gradients of the logits", () => {
  using made = float64Layer({ config: small, tokens: 9, dtype: "f64", seed: 3, biases: true });
  const x = made.x as Tensor<"f32">;
  const extraLoss = () => {
    const logits = made.layer.routerLogits(x);
    const { ids } = made.layer.route(x);
    return 0.3 * (valuesOf(loadBalancingLoss(logits, ids))[0] as number) + 0.2 * (valuesOf(zLoss(logits))[0] as number);
  };
  const gradLosses = { loadBalancingLoss: 0.3, zLoss: { factor: 0.2 } };
  expectGradients(made.layer, x, new Random(4), { gradLosses, extraLoss });
});

test("a hierarchy has logits of two gates, and no losses of them", () => {
  const { numExperts, hiddenSize, intermediateSize } = small;
  const zeros = (...shape: number[]) => reference.zeros(shape, "f32");
  const [up, down] = [zeros(numExperts, intermediateSize, hiddenSize), zeros(numExperts, hiddenSize, intermediateSize)];
  using layer = MoeLayer.create({
    ...small,
    ...{ topK: 4, hierarchy: { numGroups: 3, topK: 2 } },
    ...{ device: reference, router: zeros(numExperts, hiddenSize), groupRouter: zeros(3, hiddenSize) },
    experts: { gate: up, up, down },
  });
  const x = zeros(9, hiddenSize);
  const { state } = layer.forward(x, { save: true });
  const backward = () => layer.backward(state, x, { gradLosses: { zLoss: 0.1 } });
  expectError(backward, "INVALID_ARGUMENT", /^gradLosses requires a layer without hierarchy$/);
});

test("a routing that was given gets the gradient of its weights", () => {
  using made = float64Layer({
    config: { ...small, sharedExpert: { intermediateSize: 5 } },
    tokens: 4,
    dtype: "f64",
    seed: 5,
  });
  const random = new Random(6);
  const ids = reference.tensor(Int32Array.of(0, 1, 5, -1, 2, 2, 3, 0), [4, 2]);
  const weights = float64(reference, normals(random, 8), [4, 2]);
  const routing = { ids, weights };
  const { y, state } = made.layer.forward(made.x, { routing, save: true });
  const dy = float64(reference, normals(random, y.size), y.shape);
  const { dWeights, gradients } = made.layer.backward(state, dy as Tensor<FloatDType>);
  expect(gradients.router).toBeUndefined();
  const lossOf = () => ({ loss: dot(valuesOf(made.layer.forward(made.x, { routing })), valuesOf(dy)), ids: "" });
  expect(layerGradientError(dWeights as Tensor, weights, random, lossOf, "", () => {})).toBeLessThan(1e-8);
  expect(valuesOf(dWeights as Tensor)[3]).toBe(0);
});

describe.each(deviceNames)("backward on %s", (name) => {
  const device = openForTests(name);
  const problem: LayerProblem = {
    config: { ...exampleConfig, sharedExpert: { intermediateSize: 20, gate: "sigmoid" }, multiplier: true },
    tokens: 17,
    dtype: "f32",
    seed: 8,
    biases: true,
  };

  test("gives the same bits with recompute and offload, on every run, and twice the gradients if it adds them", () => {
    using made = new RandomLayer(device(), problem);
    const dy = device().tensor(new Random(9).normals(made.x.size), made.x.shape, "f32");
    const run = (options: ForwardOptions<"f32"> = {}, gradients?: LayerTensors) => {
      const { y, state } = made.layer.forward(made.x as Tensor<"f32">, { ...options, save: true });
      const result = made.layer.backward(state, dy, gradients ? { gradients, accumulate: true } : {});
      return { y, ...result };
    };
    const bits = ({ y, dx, gradients }: ReturnType<typeof run>) =>
      [y, dx, ...tensorsOf(gradients)].map((t) => t.rawSync());
    const first = run();
    const expected = bits(first);
    expect(bits(run())).toEqual(expected);
    expect(bits(run({ offload: true }))).toEqual(expected);
    expect(bits(run({ recompute: true }))).toEqual(expected);
    const once = tensorsOf(first.gradients).map((tensor) => tensor.dataSync());
    const twice = tensorsOf(run({}, first.gradients).gradients);
    twice.forEach((tensor, index) => {
      const doubled = Float32Array.from(once[index] as Float32Array, (value) => 2 * value);
      expect(relativeError(tensor.dataSync(), doubled, 1e-3)).toBeLessThan(1e-5);
    });
  });

  test("a forward with save computes the same bits as one without", () => {
    const dtypes = fc.constantFrom("f32" as const, "bf16" as const);
    fc.assert(
      fc.property(anyLayer, dtypes, (layer, dtype) => {
        using made = new RandomLayer(device(), { ...layer, dtype });
        const { routing } = made.layer.forward(made.x, { want: ["routing"] });
        const { y, state } = made.layer.forward(made.x, { routing, save: true });
        expect(y.rawSync()).toEqual(made.layer.forward(made.x, { routing }).rawSync());
        state.dispose();
      }),
      { numRuns: 15 },
    );
  });

  test("with frozen experts gives the same dx and gradients of the routers alone", () => {
    using made = new RandomLayer(device(), problem);
    const dy = device().tensor(new Random(9).normals(made.x.size), made.x.shape, "f32");
    const backward = (experts: boolean) =>
      made.layer.backward(made.layer.forward(made.x, { save: true }).state, dy as Tensor<FloatDType>, { experts });
    const [all, some] = [backward(true), backward(false)];
    expect(some.dx.rawSync()).toEqual(all.dx.rawSync());
    expect(some.gradients.router?.rawSync()).toEqual(all.gradients.router?.rawSync());
    expect(some.gradients.experts).toBeUndefined();
    expect(some.gradients.shared).toBeUndefined();
    // An optimiser of the routers alone.
    using parameters = made.layer.parameters({ experts: false });
    expect([...parameters].every(({ name: parameter }) => !parameter.startsWith("experts"))).toBe(true);
    const { state } = made.layer.forward(made.x, { save: true });
    const { gradients } = parameters;
    made.layer.backward(state, dy as Tensor<FloatDType>, { experts: false, gradients });
    expect(gradients.router?.rawSync()).toEqual(all.gradients.router?.rawSync());
    const before = made.layer.routerLogits(made.x).rawSync();
    using optimizer = new SGD(parameters, { learningRate: 0.1 });
    optimizer.step();
    expect(made.layer.routerLogits(made.x).rawSync()).not.toEqual(before);
  });

  test("NaN in a row of dy stays in its token and its experts", () => {
    using made = new RandomLayer(device(), { ...problem, config: { ...exampleConfig, topK: 1, normalize: false } });
    const { state } = made.layer.forward(made.x, { save: true });
    const values = new Random(10).normals(made.x.size);
    const [token, hidden] = [3, exampleConfig.hiddenSize];
    values[token * hidden + 5] = Number.NaN;
    const dy = device().tensor(values, made.x.shape, "f32");
    const { dx, gradients } = made.layer.backward(state, dy as Tensor<FloatDType>);
    const chosen = made.layer.route(made.x).ids.dataSync()[token] as number;
    const dxValues = dx.dataSync() as Float32Array;
    for (let row = 0; row < problem.tokens; row++) {
      const own = dxValues.subarray(row * hidden, (row + 1) * hidden);
      expect(own.some(Number.isNaN), `token ${row}`).toBe(row === token);
    }
    gradients.experts?.forEach(({ up, down }, expert) => {
      expect(up.dataSync().some(Number.isNaN), `up of ${expert}`).toBe(expert === chosen);
      expect(down.dataSync().some(Number.isNaN), `down of ${expert}`).toBe(expert === chosen);
    });
  });

  test("works without tokens", () => {
    using made = new RandomLayer(device(), problem);
    const x = device().empty([0, exampleConfig.hiddenSize], "f32");
    const { y, state } = made.layer.forward(x, { save: true });
    const { dx, gradients } = made.layer.backward(state, y);
    expect(dx.shape).toEqual(x.shape);
    for (const tensor of tensorsOf(gradients)) expect(tensor.dataSync().every((value) => value === 0)).toBe(true);
  });

  test("a forward returns what else is wanted", () => {
    using made = new RandomLayer(device(), problem);
    const { layer, x } = made;
    const [y, logits, ids] = [layer.forward(x), layer.routerLogits(x), layer.route(x).ids].map((t) => t.dataSync());
    // On `reference` a routing between two calls is rounded to float32.
    const bits = (result: ForwardResult) => ({
      y: relativeError(result.y.dataSync(), y as Float32Array) < 1e-6 ? y : result.y.dataSync(),
      ids: result.routing?.ids.dataSync(),
      logits: result.logits?.dataSync(),
    });
    const want = ["routing", "logits"] as const;
    expect(bits(layer.forward(x, { want }))).toEqual({ y, ids, logits });
    expect(bits(layer.forward(x, { want: ["logits"] }))).toEqual({ y, ids: undefined, logits });
    expect(bits(layer.forward(x, { want: [] }))).toEqual({ y, ids: undefined, logits: undefined });
    const given = layer.route(x);
    const back = layer.forward(x, { routing: given, want: ["routing"] }).routing;
    given.ids.dispose();
    expect(back?.ids.dataSync()).toEqual(ids);
    const { state, ...saved } = layer.forward(x, { save: true, want });
    expect(bits(saved)).toMatchObject({ ids, logits });
    layer.backward(state, x);
    expect(saved.routing?.ids.dataSync()).toEqual(ids);
  });

  test("keeps what the documentation says", () => {
    using made = new RandomLayer(device(), { ...problem, config: exampleConfig });
    const { tokens } = problem;
    const { intermediateSize, topK } = exampleConfig;
    const routing = tokens * topK * 8;
    const saved = made.layer.forward(made.x, { save: true }).state;
    expect(saved.byteLength).toBe(tokens * topK * 2 * intermediateSize * 4 + routing);
    expect(made.layer.forward(made.x, { save: true, recompute: true }).state.byteLength).toBe(routing);
    const ownMemory = !["cpu", "reference"].includes(device().kind);
    const offloaded = made.layer.forward(made.x, { save: true, offload: true }).state;
    const moved = ownMemory ? saved.byteLength - routing : 0;
    expect(offloaded.hostByteLength).toBe(moved);
    expect(offloaded.byteLength).toBe(saved.byteLength - moved);
    const weight = device().tensor(new Random(1).normals(made.x.shape[1] as number), undefined, "f32");
    const options = { save: true, offload: true, norm: { weight } } as const;
    const normed = made.layer.forward(made.x, options).state;
    expect(normed.hostByteLength).toBe(ownMemory ? moved + made.x.byteLength : 0);
    expect(made.layer.forward(made.x, { ...options, recompute: true }).state.hostByteLength).toBe(0);
    for (const state of [saved, offloaded, normed]) {
      state.dispose();
      expect([state.byteLength, state.hostByteLength]).toEqual([0, 0]);
    }
  });

  test("gives the same bits with offload where tokens are normalised and tensors are disposed of at once", () => {
    using made = new RandomLayer(device(), problem);
    const weight = device().tensor(new Random(2).normals(made.x.size / 17), undefined, "f32");
    const run = (offload: boolean) => {
      const norm = { weight };
      const { y, state } = made.layer.forward(made.x, { save: true, offload, norm, residual: true });
      const { dx, gradients } = made.layer.backward(state, y);
      return [y, dx, ...tensorsOf(gradients)].map((tensor) => tensor.rawSync());
    };
    expect(run(true)).toEqual(run(false));
  });

  test("refuses states and gradients that do not fit", () => {
    using made = new RandomLayer(device(), problem);
    using other = new RandomLayer(device(), problem);
    const { layer, x } = made;
    const dy = device().zeros(x.shape, "f32") as Tensor<FloatDType>;
    const saved = () => layer.forward(x, { save: true }).state;
    const used = saved();
    const { gradients } = layer.backward(used, dy);
    expectError(
      () => layer.backward(used, dy),
      "DISPOSED",
      /^state: used after backward\(\); each forward with save gives one for one backward$/,
    );
    const disposed = saved();
    disposed.dispose();
    expectError(() => layer.backward(disposed, dy), "DISPOSED", /state: used after dispose\(\)/);
    expectError(() => other.layer.backward(saved(), dy), "INVALID_ARGUMENT", /state: .*another layer's/);
    expectError(() => layer.backward({} as LayerState, dy), "INVALID_ARGUMENT", /state: expected what forward/);
    const short = device().zeros([3, 33], "f32") as Tensor<FloatDType>;
    expectError(() => layer.backward(saved(), short), "SHAPE_MISMATCH", /dy: expected shape \[17, 33\]/);
    expectError(
      () => layer.backward(saved(), dy, { accumulate: true }),
      "INVALID_ARGUMENT",
      /accumulate requires gradients/,
    );
    const wrong = { gradients };
    expectError(
      () => other.layer.backward(other.layer.forward(x, { save: true }).state, dy, wrong),
      "INVALID_ARGUMENT",
      /of another layer/,
    );
    const frozen = /, got some with experts; give parameters and backward the same option experts$/;
    expectError(() => layer.backward(saved(), dy, { gradients, experts: false }), "INVALID_ARGUMENT", frozen);
    using parameters = layer.parameters();
    const { weights } = parameters;
    expectError(() => layer.backward(saved(), dy, { gradients: weights }), "INVALID_ARGUMENT", /, got weights$/);
    expectError(() => layer.forward(x, { recompute: true }), "INVALID_ARGUMENT", /recompute requires save/);
    expectError(() => layer.forward(x, { offload: true }), "INVALID_ARGUMENT", /offload requires save/);
    // A state outlives a backward that was refused.
    const kept = saved();
    expectError(() => layer.backward(kept, short), "SHAPE_MISMATCH", /dy/);
    layer.backward(kept, dy);
    // And a set of weights that was refused.
    const unchanged = saved();
    expectError(() => layer.setSelectionBias(device().zeros([3], "f32")), "SHAPE_MISMATCH", /selectionBias/);
    layer.backward(unchanged, dy);
    const given = () => layer.forward(x, { save: true, routing: layer.route(x) }).state;
    const losses = { gradLosses: { zLoss: 0.1 } };
    expectError(() => layer.backward(given(), dy, losses), "INVALID_ARGUMENT", /^gradLosses requires .*own routing$/);
    for (const change of [
      () => layer.parameters().changed(),
      () => layer.setSelectionBias(device().zeros([layer.description.numExperts], "f32")),
    ]) {
      const stale = saved();
      change();
      expectError(() => layer.backward(stale, dy), "INVALID_ARGUMENT", /changed since/);
    }
  });

  test("parameters cannot undo what later ones have changed", () => {
    using random = new RandomLayer(device(), { config: exampleConfig, tokens: 5, dtype: "f32", seed: 3 });
    const { layer, x } = random;
    using first = layer.parameters();
    using second = layer.parameters();
    first.changed();
    second.weights.router?.write(new Float32Array(second.weights.router.size));
    expectError(() => second.changed(), "INVALID_ARGUMENT", /present weights, got older ones.*layer\.parameters\(\)/);
    first.changed();
    const before = layer.forward(x).dataSync();
    using third = layer.parameters({ experts: false });
    expectError(() => second.changed(), "INVALID_ARGUMENT", /got older ones/);
    third.changed();
    expect(layer.forward(x).dataSync()).toEqual(before);
    expectError(() => first.changed(), "INVALID_ARGUMENT", /got older ones/);
  });
});

test("gradients have the same bits with any number of threads", () => {
  const bits = [1, 2, 3].map((threads) => {
    const device = openDevice("cpu", { threads });
    using made = new RandomLayer(device, {
      config: { ...exampleConfig, hiddenSize: 130 },
      tokens: 300,
      dtype: "bf16",
      seed: 1,
    });
    const { state } = made.layer.forward(made.x, { save: true });
    const { dx, gradients } = made.layer.backward(state, made.x);
    const all = [dx, ...tensorsOf(gradients)].map((tensor) => tensor.rawSync());
    device.dispose();
    return all;
  });
  expect(bits[1]).toEqual(bits[0]);
  expect(bits[2]).toEqual(bits[0]);
});

/** All tensors of gradients. */
function tensorsOf(gradients: LayerTensors): Tensor[] {
  const { router, routerBias, sharedGate, sharedGateBias, experts = [], shared } = gradients;
  const weights = [...experts, ...(shared ? [shared] : [])].flatMap((expert) => Object.values(expert) as Tensor[]);
  return [router, routerBias, sharedGate, sharedGateBias, ...weights].filter((tensor) => tensor !== undefined);
}
