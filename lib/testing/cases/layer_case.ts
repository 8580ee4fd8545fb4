import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { describeLayer, type MoeLayerConfig } from "../../layer/description/config.js";
import type { Training } from "../../layer/router/training.js";
import { trainedRoles } from "../../layer/weights/extra_weights.js";
import type { MoeLayer } from "../../moe_layer.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { Matrix } from "../../reference/core/matrix.js";
import { rmsNorm } from "../../reference/experts/rms_norm.js";
import { gating } from "../../reference/routing/gating.js";
import { hierarchicalGating } from "../../reference/routing/hierarchical_gating.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { type Draw, randomRouted, randomShared } from "../inputs/random_expert.js";
import { randomRouting, type Spread } from "../inputs/random_routing.js";
import { type Projection, steadyTokens } from "../inputs/steady_tokens.js";
import { round } from "../rounding.js";

export interface LayerProblem extends MoeLayerConfig {
  tokens: number;
  /** B, a divisor of `tokens`, if x is [B, S, H]. */
  sequences?: number;
  dtypes?: readonly [x: FloatDType, weights: FloatDType];
  biases?: boolean;
  selectionBias?: boolean;
  /** A routing to pass to the layer; by default its own router's. */
  routing?: Spread;
  /** Experts to pass to the layer, which its router then weighs. */
  expertIds?: Spread;
  /** The dtype of the tokens that the router reads, for `separateRouterInput`; default that of x. */
  routerInput?: FloatDType;
  /** The dtype of a residual that is added to the outputs; default none. */
  residual?: FloatDType;
  /** Also compare the router's logits. */
  logits?: boolean;
  /** For the case's name: the model whose shape this is, scaled down. */
  model?: string;
}

/** A layer's weights besides its experts that have gradients, as MoeLayer.create calls them. */
export const projectionNames = ["router", "routerBias", ...trainedRoles, "sharedGate", "sharedGateBias"] as const;

/** By the dtype of x; 16-bit ones also round between the two products. */
const outputTolerances: Readonly<Record<FloatDType, number>> = { f64: 1e-12, f32: 1e-5, f16: 3e-3, bf16: 2e-2 };

/** Runs a layer with random weights on random tokens. */
export function layerCase(problem: LayerProblem): Case {
  const { dtypes: [xDType] = ["f32"] } = problem;
  return {
    name: caseName(problem),
    operator: "layer",
    devicesOnly: problem.routerJitter !== undefined,
    tolerances: { logits: 1e-5, groupLogits: 1e-5, weights: 3e-6, y: outputTolerance(problem, xDType) },
    run(inputs) {
      const { layer, x, options } = preparedLayer(problem, inputs);
      const residual = problem.residual && { residual: inputs.normals(x.shape, problem.residual) };
      const { routing: given, routerInput, ...others } = options;
      if (given !== undefined) return { y: inputs.forward(layer, x, { routing: given, ...residual }) };
      const read = routerInput ?? x;
      const logits = problem.logits && {
        logits: layer.routerLogits(read),
        ...(problem.hierarchy && { groupLogits: layer.groupLogits(read) }),
      };
      return { ...logits, ...layer.route(read, others), y: inputs.forward(layer, x, { ...options, ...residual }) };
    },
  };
}

/** The error of a layer's outputs that is allowed for tokens of a dtype. */
export function outputTolerance(problem: OutputSize, dtype: FloatDType): number {
  return outputTolerances[dtype] * allowance(problem);
}

/** What the errors of outputs depend on. */
type OutputSize = Pick<LayerProblem, "outputActivation" | "tokens" | "hiddenSize">;

/**
 * What errors may be larger by: a softmax of the outputs turns their absolute errors into relative ones; the largest of a
 * few outputs may be far smaller than what it is the sum of.
 */
export function allowance({ outputActivation, tokens, hiddenSize }: OutputSize): number {
  return (outputActivation === "softmax" ? 2 : 1) * (tokens * hiddenSize < 32 ? 10 : 1);
}

/** A layer and a forward of it. */
export interface PreparedLayer {
  readonly layer: MoeLayer;
  readonly x: Tensor<FloatDType>;
  readonly options: {
    routerInput?: Tensor<FloatDType>;
    tokenIds?: Tensor<"i32">;
    expertIds?: Tensor<"i32">;
    routing?: Routing;
    training?: Training;
  };
}

/** A layer with random weights, and tokens whose choice of experts does not depend on rounding. */
export function preparedLayer(problem: LayerProblem, inputs: Inputs): PreparedLayer {
  const { tokens, dtypes: [xDType] = ["f32", "f32"], routing, routerInput: readDType = xDType } = problem;
  const { hiddenSize, numExperts, topK, sequences, expertIds: given, hashRouting, separateRouterInput } = problem;
  const { random } = inputs;
  const router = drawRouter(problem, inputs);
  const layer = randomLayer(problem, router, inputs);
  const shape = [tokens, topK];
  const xShape = sequences === undefined ? [tokens, hiddenSize] : [sequences, tokens / sequences, hiddenSize];
  if (routing !== undefined) {
    const x = inputs.normals(xShape, xDType);
    const { ids, weights } = randomRouting(random, tokens, topK, numExperts, routing);
    const whole = { ids: inputs.integers(ids, shape), weights: inputs.floats(weights, shape, "f32") as F32 };
    return { layer, x, options: { routing: whole } };
  }
  const steady = inputs.drawn(() =>
    hashRouting || given ? random.normals(tokens * hiddenSize) : steadyTokensOf(problem, router, random),
  );
  const routerTokens = inputs.floats(steady, xShape, readDType);
  const x = separateRouterInput ? inputs.normals(xShape, xDType) : routerTokens;
  const lastId = (hashRouting?.vocabularySize ?? 0) - 1;
  const tokenIds = Array.from({ length: hashRouting ? tokens : 0 }, () => random.integer(-1, lastId));
  const own = {
    ...(separateRouterInput && { routerInput: routerTokens }),
    ...(hashRouting && { tokenIds: inputs.integers(tokenIds, xShape.slice(0, -1)) }),
    ...(given && { expertIds: inputs.integers(randomRouting(random, tokens, topK, numExperts, given).ids, shape) }),
  };
  const training = trainingOf(problem, inputs);
  return { layer, x, options: { ...own, ...(training && { training }) } };
}

/** What a layer routes by, not yet rounded to the dtype of its weights. */
type DrawnRouter = ReturnType<typeof drawRouter>;

function drawRouter(problem: LayerProblem, { random }: Inputs) {
  const { hiddenSize, numExperts, topK, hierarchy, routerNorm, perExpertScale, hashRouting } = problem;
  const numGroups = hierarchy?.numGroups ?? 0;
  // The biases are drawn whether there are any or not: layers with and without them have the same other weights.
  return {
    router: random.normals(numExperts * hiddenSize, hiddenSize ** -0.5),
    routerBias: random.normals(numExperts, 0.1),
    selectionBias: random.normals(numExperts, 0.1),
    numGroups,
    groupRouter: random.normals(numGroups * hiddenSize, hiddenSize ** -0.5),
    groupRouterBias: random.normals(numGroups, 0.1),
    normWeight: routerNorm && random.normals(hiddenSize, 0.3).map((value) => 1 + value),
    scales: perExpertScale && random.normals(numExperts, 0.5),
    table: hashRouting && randomRouting(random, hashRouting.vocabularySize, topK, numExperts, "even").ids,
  };
}

/** The configuration of a problem's layer, and what else the layer has. */
function layerOf(problem: LayerProblem) {
  const { tokens, dtypes: [, dtype] = ["f32", "f32"], biases = false, routing, ...rest } = problem;
  const { model, logits, residual, selectionBias = false, sequences, routerInput, expertIds, ...config } = rest;
  return { config, dtype, biases, hasSelectionBias: selectionBias };
}

function randomLayer(problem: LayerProblem, drawn: DrawnRouter, inputs: Inputs): MoeLayer {
  const { config, dtype, biases, hasSelectionBias } = layerOf(problem);
  const { hiddenSize, numExperts, topK, hierarchy, noisy, hashRouting } = config;
  const { numGroups, normWeight, scales, table } = drawn;
  const draw: Draw = (shape, deviation) => inputs.normals(shape, dtype, deviation);
  return inputs.layer({
    ...config,
    dtype: inputs.dtype(dtype),
    router: inputs.floats(drawn.router, [numExperts, hiddenSize], dtype),
    ...(biases && { routerBias: inputs.floats(drawn.routerBias, [numExperts], dtype) }),
    ...(hasSelectionBias && { selectionBias: inputs.floats(drawn.selectionBias, [numExperts], "f32") }),
    ...randomRouted(draw, config, biases),
    ...randomShared(draw, config, biases),
    ...(noisy && { noiseRouter: draw([numExperts, hiddenSize], hiddenSize ** -0.5) }),
    ...(hierarchy && {
      groupRouter: inputs.floats(drawn.groupRouter, [numGroups, hiddenSize], dtype),
      ...(biases && { groupRouterBias: inputs.floats(drawn.groupRouterBias, [numGroups], dtype) }),
      ...(noisy && { groupNoiseRouter: draw([numGroups, hiddenSize], hiddenSize ** -0.5) }),
    }),
    ...(normWeight && { routerNormWeight: inputs.floats(normWeight, [hiddenSize], dtype) }),
    ...(scales && { expertScale: inputs.floats(scales, [numExperts], dtype) }),
    ...(hashRouting && table && { expertTable: inputs.integers(table, [hashRouting.vocabularySize, topK]) }),
  });
}

/** Tokens [T, H] for which this router chooses the same experts whatever the rounding errors of their logits. */
function steadyTokensOf(problem: LayerProblem, drawn: DrawnRouter, random: Inputs["random"]): Float32Array {
  const { tokens, hiddenSize, numExperts, dtypes: [xDType] = ["f32"], routerInput = xDType } = problem;
  const { config, dtype, biases, hasSelectionBias } = layerOf(problem);
  const rule = describeLayer(config, dtype);
  const { hierarchy, routerNorm } = rule;
  const projection = (weight: Float32Array, bias: Float32Array, rows: number): Projection => ({
    weight: { values: round(weight, dtype), rows, columns: hiddenSize },
    bias: biases ? round(bias, dtype) : undefined,
  });
  const { normWeight } = drawn;
  const factors = normWeight && round(normWeight, dtype).map((value) => value * (routerNorm?.scale ?? 1));
  const read = (token: Float64Array) =>
    factors === undefined
      ? token
      : rmsNorm({ values: token, rows: 1, columns: hiddenSize }, factors, routerNorm?.epsilon as number).values;
  const gate = projection(drawn.router, drawn.routerBias, numExperts);
  if (hierarchy) {
    const groupGate = projection(drawn.groupRouter, drawn.groupRouterBias, drawn.numGroups);
    const route = (first: Matrix, second: Matrix) =>
      hierarchicalGating(first, second, hierarchy.groups, hierarchy.experts);
    return steadyTokens(random, tokens, [groupGate, gate], route, routerInput, read);
  }
  const selectionBias = hasSelectionBias ? round(drawn.selectionBias, "f32") : undefined;
  return steadyTokens(
    random,
    tokens,
    [gate],
    (logits: Matrix) => gating(logits, rule, selectionBias),
    routerInput,
    read,
  );
}

/** The noise of a layer in training; undefined without. */
function trainingOf({ tokens, numExperts, noisy, hierarchy, routerJitter }: LayerProblem, inputs: Inputs) {
  if (!noisy) return routerJitter === undefined ? undefined : { seed: 5 };
  return {
    noise: inputs.normals([tokens, numExperts], "f32") as F32,
    ...(hierarchy && { groupNoise: inputs.normals([tokens, hierarchy.numGroups], "f32") as F32 }),
  };
}

type F32 = Tensor<"f32">;

/** The name of a case of this problem. */
export function caseName({ tokens, dtypes: [x, weights] = ["f32", "f32"], ...problem }: LayerProblem): string {
  const { hiddenSize, intermediateSize, numExperts, topK, activation = "swiglu", clamp } = problem;
  const { capacity, expertChoice, hierarchy, sequences } = problem;
  const { sharedExpert: shared, latent, groups, normalize, outputActivation = "none" } = problem;
  const details = {
    [activation]: true,
    [`clamp ${Object.values(clamp ?? {}).join(" ")}`]: clamp,
    [`${x} x ${weights}`]: true,
    biases: problem.biases,
    multiplier: problem.multiplier,
    [`${outputActivation} of outputs`]: outputActivation !== "none",
    "weight on input": problem.weightOn === "input",
    [`shared ${shared?.intermediateSize}`]: shared,
    [`shared clamp ${Object.values(shared?.clamp ?? {}).join(" ")}`]: shared?.clamp,
    [`${shared?.gate} gate`]: shared?.gate,
    [`latent ${latent?.size}${latent?.norm ? " with norm" : ""}`]: latent,
    [`${problem.scoring}`]: problem.scoring,
    [`normalize ${typeof normalize === "object" && normalize.by}`]: typeof normalize === "object",
    [`groups ${groups?.top} of ${groups?.count} by ${groups?.score}`]: groups,
    "selection bias": problem.selectionBias,
    [`routing ${problem.routing}`]: problem.routing,
    [`expert ids ${problem.expertIds}`]: problem.expertIds,
    logits: problem.logits,
    [`residual ${problem.residual}`]: problem.residual,
    [`capacity ${Object.values(capacity ?? {}).join(" ")}`]: capacity,
    [`expert choice ${Object.values(expertChoice ?? {}).join(" ")}`]: expertChoice,
    [`${sequences} sequences`]: sequences,
    [`hierarchy of ${hierarchy?.numGroups} groups, ${hierarchy?.topK} chosen`]: hierarchy,
    "noisy in training": problem.noisy,
    [`router jitter ${problem.routerJitter} in training`]: problem.routerJitter,
    [`router input ${problem.routerInput ?? ""}`.trimEnd()]: problem.separateRouterInput,
    [`router norm ${Object.values(problem.routerNorm ?? {}).join(" ")}`.trimEnd()]: problem.routerNorm,
    "scales of experts": problem.perExpertScale,
    [`${problem.identityExperts} identity experts`]: problem.identityExperts,
    [`hash routing of ${problem.hashRouting?.vocabularySize} token ids`]: problem.hashRouting,
  };
  const sizes = `T${tokens} H${hiddenSize} I${intermediateSize} E${numExperts} k${topK}`;
  const stated = Object.keys(details).filter((detail) => details[detail]);
  return [...(problem.model ? [`like ${problem.model}:`] : []), sizes, ...stated].join(" ");
}
