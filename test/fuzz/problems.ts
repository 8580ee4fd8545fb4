import { type Activation, activations, isClamped, outputActivations } from "../../lib/core/layer/activation.js";
import { drops, expertScorings, groupScores, weightPlaces } from "../../lib/core/layer/routing_rule.js";
import { sharedGates } from "../../lib/core/layer/shared_gate.js";
import { distributions } from "../../lib/core/operators/noise.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { scaleChoices } from "../../lib/operators/formats/quantize.js";
import type { GatingRuleOptions } from "../../lib/operators/routing/gating_options.js";
import type { Case, CaseOperator } from "../../lib/testing/case.js";
import { activateCase, activationBackwardCase } from "../../lib/testing/cases/activation.js";
import { expertSlotsCase, limitCapacityCase } from "../../lib/testing/cases/capacity.js";
import { copyMatrixCase } from "../../lib/testing/cases/copy_matrix.js";
import { expertChoiceCase } from "../../lib/testing/cases/expert_choice.js";
import {
  dequantizableFormats,
  dequantizeCase,
  quantizableFormats,
  quantizationErrorCase,
  quantizeCase,
} from "../../lib/testing/cases/formats.js";
import { gatingCase } from "../../lib/testing/cases/gating.js";
import { gatingBackwardCase } from "../../lib/testing/cases/gating_backward.js";
import { gatingWeightsCase } from "../../lib/testing/cases/gating_weights.js";
import { groupedGemmCase } from "../../lib/testing/cases/grouped_gemm.js";
import {
  groupedGemmBackwardCase,
  groupedGemmWeightBackwardCase,
} from "../../lib/testing/cases/grouped_gemm_backward.js";
import { hierarchicalGatingCase } from "../../lib/testing/cases/hierarchical_gating.js";
import { hierarchicalGatingBackwardCase } from "../../lib/testing/cases/hierarchical_gating_backward.js";
import { layerBackwardCase } from "../../lib/testing/cases/layer_backward.js";
import { type LayerProblem, layerCase } from "../../lib/testing/cases/layer_case.js";
import {
  expertChoiceBackwardCase,
  limitCapacityBackwardCase,
} from "../../lib/testing/cases/limit_capacity_backward.js";
import { lookUpExpertsCase } from "../../lib/testing/cases/look_up_experts.js";
import {
  expertLoadCase,
  jitterCase,
  type LoadProblem,
  noisyLogitsCase,
  randomCase,
} from "../../lib/testing/cases/noise.js";
import { expertLoadBackwardCase, noisyLogitsBackwardCase } from "../../lib/testing/cases/noise_backward.js";
import { type NormProblem, rmsNormBackwardCase, rmsNormCase } from "../../lib/testing/cases/norm.js";
import { adamWCase, type OptimizerProblem, sgdCase, squaresCase } from "../../lib/testing/cases/optimizers.js";
import { type QuantizedLayerProblem, quantizedLayerCase } from "../../lib/testing/cases/quantized_weights.js";
import { routerProjectionCase } from "../../lib/testing/cases/router_projection.js";
import { routerProjectionBackwardCase } from "../../lib/testing/cases/router_projection_backward.js";
import {
  combineBackwardCase,
  combineCase,
  permuteBackwardCase,
  permuteCase,
  unpermuteCase,
} from "../../lib/testing/cases/rows.js";
import { sharedSlotsBackwardCase, sharedSlotsCase } from "../../lib/testing/cases/shared_slots.js";
import { sortCase } from "../../lib/testing/cases/sort.js";
import {
  accumulateCase,
  biasCase,
  imbalanceCase,
  lossCase,
  meansCase,
  scoresCase,
  totalsCase,
  zLossCase,
} from "../../lib/testing/cases/statistics.js";
import {
  cvBackwardCase,
  lossBackwardCase,
  meansBackwardCase,
  scoresBackwardCase,
  totalsBackwardCase,
  zLossBackwardCase,
} from "../../lib/testing/cases/statistics_backward.js";
import { inputChanges } from "../../lib/testing/inputs/random_quantized.js";
import type { Spread } from "../../lib/testing/inputs/random_routing.js";
import type { Draw } from "./draw.js";

// Random problems for the cases of lib/testing: calls that are accepted, whose results are compared with those of `reference`.

function optimizerProblem(draw: Draw): OptimizerProblem {
  return {
    sizes: Array.from({ length: draw.integer(1, 3) }, () => draw.size(3000)),
    steps: draw.integer(1, 4),
    copy: draw.pick([undefined, "f32", "f16", "bf16"] as const),
    maxNorm: draw.pick([undefined, 0.1, 100]),
    weightDecay: draw.pick([undefined, 0, 0.1]),
  };
}

/** How a case is made from its arguments, and how these are drawn. */
interface Problem {
  make(args: readonly unknown[]): Case;
  draw(draw: Draw): unknown[];
}

/** The problem of a case: what is drawn is what `make` takes. */
function problem<Args extends unknown[]>(make: (...args: Args) => Case): (draw: (draw: Draw) => Args) => Problem {
  return (draw) => ({ make: (args) => make(...(args as Args)), draw });
}

const dtypes = ["f32", "f16", "bf16"] as const satisfies readonly FloatDType[];
const spreads: readonly Spread[] = ["even", "uneven", "one_expert", "some_dropped", "all_dropped"];

/** A divisor of `of`. */
function divisor(draw: Draw, of: number): number {
  return draw.pick(Array.from({ length: of }, (_, index) => index + 1).filter((size) => of % size === 0));
}

function choices(draw: Draw, mostTokens = 200) {
  const experts = draw.chance(0.8) ? draw.integer(1, 40) : draw.integer(1, 300);
  return {
    tokens: draw.size(mostTokens),
    experts,
    topK: draw.integer(1, Math.min(experts, 12)),
    spread: draw.pick(spreads),
  };
}

/**
 * A rule for a gate over `experts`. With groups, scores that differ in float64 alone decide which of two are best; these are
 * drawn for softmax and sigmoid of moderate logits only.
 */
function gatingRule(draw: Draw, experts: number): GatingRuleOptions {
  const scoring = draw.pick(["softmax", "softmax_selected", "sigmoid", "sqrt_softplus", "none", "sparsemixer"]);
  const topK = draw.integer(1, scoring === "sparsemixer" ? Math.min(2, experts) : Math.min(experts, 12));
  const normalize = draw.pick([
    true,
    false,
    { by: "sum_plus_epsilon", epsilon: 1e-3 },
    { by: "clamped_sum", epsilon: 0.25 },
    { by: "lp", power: draw.integer(1, 3) },
  ] as const);
  const byLp = typeof normalize === "object" && normalize.by === "lp";
  const rule = {
    topK,
    scoring,
    normalize: scoring === "none" && !byLp ? false : normalize,
    scale: draw.pick([1, 2.5]),
  } satisfies GatingRuleOptions;
  const count = divisor(draw, experts);
  const size = experts / count;
  if (count === 1 || scoring === "sparsemixer" || draw.chance(0.5)) return rule;
  const least = Math.ceil(topK / size);
  const top = draw.integer(least, count);
  const score = draw.pick(groupScores);
  const scoreFits = { max: true, top2_sum: size > 1, topk_sum: topK % top === 0 && topK / top <= size }[score];
  return { ...rule, groups: { count, top, score: scoreFits ? score : "max" } };
}

/** A softmax gate over `experts` experts. */
function plainRule(draw: Draw, experts: number): GatingRuleOptions {
  return {
    topK: draw.integer(1, experts),
    scoring: draw.pick(["softmax", "softmax_selected"]),
    normalize: draw.chance(0.5),
  };
}

/** What an expert's load is of. */
function loadProblem(draw: Draw): LoadProblem {
  const [count, size] = [draw.integer(1, 6), draw.integer(1, 12)];
  return {
    tokens: draw.size(150),
    experts: count * size,
    topK: draw.integer(1, size),
    masked: draw.chance(0.3),
    ...draw.some({ groups: [count, draw.integer(1, count)] } as const),
  };
}

/** What gradients of weights are of. */
function weightGradientProblem(draw: Draw) {
  return {
    rows: draw.chance(0.5)
      ? { total: draw.size(300), experts: draw.integer(1, 40) }
      : Array.from({ length: draw.integer(0, 6) }, () => draw.size(60)),
    columns: draw.size(200),
    outputs: draw.size(200),
    dtypes: [draw.pick(dtypes), draw.pick(dtypes)] as const,
    bias: draw.chance(0.5),
    accumulate: draw.chance(0.3),
    ...draw.some({ gatherFrom: draw.integer(1, 60), rowsBehind: draw.integer(0, 9) }),
  };
}

/** A norm, whose rows may be so small that epsilon counts. */
function norm(draw: Draw): NormProblem {
  return {
    tokens: draw.size(100),
    hidden: draw.size(1000),
    epsilon: draw.pick([1e-6, 1e-5, 0.5]),
    offset: draw.pick([0, 1]),
    deviation: draw.pick([1e-3, 1, 50]),
  };
}

/** What has cases of its own: these two have those of `loadBalancingLoss` and its gradient. */
type Fuzzed = Exclude<CaseOperator, "balanceLoss" | "balanceLossBackward">;

export const problems: Readonly<Record<string, Problem>> = {
  routerProjection: problem(routerProjectionCase)((draw) => [
    {
      tokens: draw.size(200),
      hidden: draw.size(400),
      experts: draw.size(200),
      dtypes: [draw.pick(dtypes), draw.pick(dtypes)],
      ...draw.some({ bias: draw.pick(dtypes) }),
    },
  ]),
  gating: problem(gatingCase)((draw) => {
    const { tokens, experts } = choices(draw);
    const rule = gatingRule(draw, experts);
    const kind = rule.groups ? "normal" : draw.pick(["normal", "normal", "equal", "all_nan"]);
    return [{ tokens, experts, dtype: draw.pick(dtypes), kind, ...rule }];
  }),
  routerProjectionBackward: problem(routerProjectionBackwardCase)((draw) => [
    {
      tokens: draw.size(200),
      hidden: draw.size(400),
      experts: draw.size(200),
      dtypes: [draw.pick(dtypes), draw.pick(dtypes)],
      bias: draw.chance(0.5),
      ...draw.some({ dxDType: draw.pick(dtypes) }),
    },
  ]),
  gatingBackward: problem(gatingBackwardCase)((draw) => {
    const { tokens, experts } = choices(draw);
    const kind = draw.pick(["normal", "normal", "equal", "all_nan"]);
    return [
      { tokens, experts, dtype: draw.pick(dtypes), kind, dropped: draw.chance(0.3), ...gatingRule(draw, experts) },
    ];
  }),
  gatingWeights: problem(gatingWeightsCase)((draw) => {
    const { tokens, experts } = choices(draw);
    const kind = draw.pick(["normal", "normal", "equal", "all_nan"]);
    return [{ tokens, experts, dtype: draw.pick(dtypes), kind, odd: draw.chance(0.3), ...gatingRule(draw, experts) }];
  }),
  lookUpExperts: problem(lookUpExpertsCase)((draw) => [
    { tokens: draw.size(500), vocabulary: draw.integer(1, 300), topK: draw.integer(1, 12) },
  ]),
  hierarchicalGating: problem(hierarchicalGatingCase)((draw) => {
    const [numGroups, groupSize] = [draw.integer(1, 12), draw.integer(1, 12)];
    return [
      {
        tokens: draw.size(60),
        numGroups,
        groupSize,
        groups: plainRule(draw, numGroups),
        experts: plainRule(draw, groupSize),
      },
    ];
  }),
  hierarchicalGatingBackward: problem(hierarchicalGatingBackwardCase)((draw) => {
    const [numGroups, groupSize] = [draw.integer(1, 12), draw.integer(1, 12)];
    const [groups, experts] = [plainRule(draw, numGroups), plainRule(draw, groupSize)];
    return [{ tokens: draw.size(60), numGroups, groupSize, groups, experts, dropped: draw.chance(0.3) }];
  }),
  limitCapacityBackward: problem(limitCapacityBackwardCase)((draw) => [
    {
      tokens: draw.size(200),
      topK: draw.integer(1, 9),
      renormalize: draw.pick([false, true, { by: "chosen", scale: 2 } as const]),
    },
  ]),
  expertChoiceBackward: problem(expertChoiceBackwardCase)((draw) => [
    draw.size(100),
    draw.integer(1, 60),
    draw.pick(expertScorings),
  ]),
  limitCapacity: problem(limitCapacityCase)((draw) => {
    const { tokens, ...sizes } = choices(draw);
    const sequences = divisor(draw, Math.max(tokens, 1));
    const size = draw.chance(0.5)
      ? { tokens: draw.integer(0, 20) }
      : { factor: draw.pick([0, 0.5, 1, 1.25]), ...draw.some({ round: "down", minimum: 2, multipleOf: 3 } as const) };
    return [
      {
        ...sizes,
        tokens,
        capacity: {
          ...size,
          drop: draw.pick(drops),
          renormalize: draw.pick([true, false, { by: "chosen", scale: 2 }]),
          ...(draw.chance(0.3) && { per: "sequence" }),
        },
        sequences,
        kind: draw.pick(["different", "equal", "tied"]),
      },
    ];
  }),
  expertSlots: problem(expertSlotsCase)((draw) => {
    const { tokens, topK, experts, spread } = choices(draw);
    return [tokens, topK, experts, draw.integer(0, 30), spread];
  }),
  expertChoice: problem(expertChoiceCase)((draw) => [
    {
      tokens: draw.size(200),
      experts: draw.integer(1, 60),
      rule: {
        ...(draw.chance(0.5) ? { tokens: draw.integer(0, 40) } : { factor: draw.pick([0, 0.5, 2, 1000]) }),
        scoring: draw.pick(expertScorings),
      },
      dtype: draw.pick(dtypes),
      kind: draw.pick(["normal", "equal"]),
    },
  ]),
  sharedSlots: problem(sharedSlotsCase)((draw) => [sharedExperts(draw)]),
  sharedSlotsBackward: problem(sharedSlotsBackwardCase)((draw) => [sharedExperts(draw)]),
  sort: problem(sortCase)((draw) => [choices(draw, 1000)]),
  permute: problem(permuteCase)((draw) => [draw.size(200), draw.size(200), draw.size(300), draw.pick(dtypes)]),
  unpermute: problem(unpermuteCase)((draw) => [slots(draw), draw.pick(dtypes)]),
  activate: problem(activateCase)((draw) => [activation(draw)]),
  activationBackward: problem(activationBackwardCase)((draw) => [activation(draw), draw.some({ inner: true })]),
  combine: problem(combineCase)((draw) => [
    slots(draw),
    draw.pick(dtypes),
    draw.pick(dtypes),
    draw.chance(0.5) ? draw.pick(dtypes) : undefined,
  ]),
  rmsNorm: problem(rmsNormCase)((draw) => [norm(draw), [draw.pick(dtypes), draw.pick(dtypes), draw.pick(dtypes)]]),
  rmsNormBackward: problem(rmsNormBackwardCase)((draw) => [
    norm(draw),
    [draw.pick(dtypes), draw.pick(dtypes), draw.pick(dtypes), draw.pick(dtypes)],
    draw.pick(["both", "dx", "dWeight"]),
    draw.chance(0.5) ? draw.pick(dtypes) : undefined,
  ]),
  combineBackward: problem(combineBackwardCase)((draw) => [
    slots(draw),
    [draw.pick(dtypes), draw.pick(dtypes), draw.pick(dtypes)],
    draw.pick(["both", "dRows", "dWeights"]),
  ]),
  permuteBackward: problem(permuteBackwardCase)((draw) => [slots(draw), draw.pick(dtypes)]),
  copyMatrix: problem(copyMatrixCase)((draw) => [
    draw.pick(["whole", "transposed", "every third column", "in one corner", "one row repeated"]),
    draw.pick(dtypes),
    draw.pick(dtypes),
  ]),
  quantize: problem(quantizeCase)((draw) => [
    draw.pick(quantizableFormats),
    {
      shape: [draw.size(140), draw.size(600)],
      dtype: draw.pick(dtypes),
      scale: draw.pick(scaleChoices),
      ...draw.some({ mean: draw.pick([-1, 0.1, 1000]), deviation: draw.pick([0, 1e-40, 1e-6, 3, 1e4, 1e37]) }),
    },
  ]),
  dequantize: problem(dequantizeCase)((draw) => [
    draw.pick(dequantizableFormats),
    draw.pick(dtypes),
    { matrix: [draw.integer(1, 40), draw.integer(1, 600)], lead: draw.chance(0.3) ? [draw.size(4)] : [] },
  ]),
  quantizationError: problem(quantizationErrorCase)((draw) => [
    draw.pick(quantizableFormats),
    { shape: [draw.size(40), draw.size(600)], dtype: draw.pick(dtypes), ...draw.some({ mean: 0.5, deviation: 2 }) },
  ]),
  groupedGemm: problem(groupedGemmCase)((draw) => [
    {
      rows: draw.chance(0.5)
        ? { total: draw.size(200), experts: draw.integer(1, 40) }
        : Array.from({ length: draw.integer(0, 6) }, () => draw.size(40)),
      columns: draw.size(300),
      outputs: draw.size(200),
      activation: draw.pick(activations),
      dtypes: [draw.pick(dtypes), draw.pick(dtypes)],
      packed: draw.chance(0.5),
      ...draw.some({
        bias: draw.pick(dtypes),
        outDType: draw.pick(dtypes),
        gatherFrom: draw.integer(1, 60),
        rowsBehind: draw.integer(0, 9),
      }),
    },
  ]),
  groupedGemmWeightBackward: problem(groupedGemmWeightBackwardCase)((draw) => [weightGradientProblem(draw)]),
  groupedGemmBackward: problem(groupedGemmBackwardCase)((draw) => [
    {
      ...weightGradientProblem(draw),
      weight: draw.pick(dtypes),
      packed: draw.chance(0.5),
      ...draw.some({ dxDType: draw.pick(dtypes) }),
    },
  ]),
  routerScores: problem(scoresCase)((draw) => {
    const kind = draw.pick(["normal", "extreme", "non_finite", "never_finite"] as const);
    const scoring = draw.pick(expertScorings);
    // Sigmoids of which float32 makes zeros cannot be normalised as in float64.
    const vanish = scoring === "sigmoid" && kind === "extreme";
    const sizes = { tokens: draw.size(100), experts: draw.integer(0, 200) };
    return [{ ...sizes, kind, dtype: draw.pick(dtypes), scoring, normalize: draw.chance(0.5) && !vanish }];
  }),
  expertTotals: problem(totalsCase)((draw) => {
    const problem = batch(draw);
    return [problem, draw.chance(0.5), draw.integer(0, problem.topK)];
  }),
  columnMeans: problem(meansCase)(meansArguments),
  loadBalancingLoss: problem(lossCase)(lossArguments),
  zLoss: problem(zLossCase)(zLossArguments),
  routerScoresBackward: problem(scoresBackwardCase)((draw) => [
    {
      tokens: draw.size(100),
      experts: draw.integer(0, 200),
      kind: draw.pick(["normal", "non_finite", "never_finite"] as const),
      dtype: draw.pick(dtypes),
      scoring: draw.pick(expertScorings),
      normalize: draw.chance(0.5),
    },
    ["dScores", ...(draw.chance(0.5) ? (["dLogSumExp", "dEntropy"] as const) : [])],
  ]),
  expertTotalsBackward: problem(totalsBackwardCase)((draw) => {
    const problem = batch(draw);
    return [problem, draw.integer(0, problem.topK)];
  }),
  columnMeansBackward: problem(meansBackwardCase)(meansArguments),
  loadBalancingLossBackward: problem(lossBackwardCase)(lossArguments),
  zLossBackward: problem(zLossBackwardCase)(zLossArguments),
  cvSquaredBackward: problem(cvBackwardCase)((draw) => [draw.size(300), draw.integer(1, 9)]),
  imbalance: problem(imbalanceCase)((draw) => [draw.size(300), draw.integer(1, 9)]),
  updateSelectionBias: problem(biasCase)((draw) => [draw.integer(1, 9), draw.integer(1, 200)]),
  accumulate: problem(accumulateCase)((draw) => [draw.size(200)]),
  random: problem(randomCase)((draw) => [
    Array.from({ length: draw.integer(0, 4) }, () => draw.size(9)),
    draw.pick(distributions),
    draw.integer(0, 2 ** 53 - 1),
    draw.pick([0, 1, 2 ** 40 + 1]),
  ]),
  sumOfSquares: problem(squaresCase)((draw) => [Array.from({ length: draw.integer(1, 4) }, () => draw.size(9000))]),
  adamW: problem(adamWCase)((draw) => [optimizerProblem(draw)]),
  sgd: problem(sgdCase)((draw) => {
    const momentum = draw.pick([0, 0.5, 0.9]);
    return [{ ...optimizerProblem(draw), momentum, nesterov: momentum > 0 && draw.pick([true, false]) }];
  }),
  jitter: problem(jitterCase)((draw) => [draw.size(100), draw.size(200), draw.pick(dtypes), draw.pick([0, 0.01, 0.9])]),
  noisyLogits: problem(noisyLogitsCase)((draw) => [draw.size(100), draw.size(100), draw.pick([undefined, 0, 7])]),
  expertLoad: problem(expertLoadCase)((draw) => [loadProblem(draw)]),
  noisyLogitsBackward: problem(noisyLogitsBackwardCase)((draw) => [
    draw.size(100),
    draw.size(100),
    draw.pick([undefined, 0, 7]),
  ]),
  expertLoadBackward: problem(expertLoadBackwardCase)((draw) => [loadProblem(draw)]),
  layer: problem(layerCase)((draw) => [
    { ...layerProblem(draw, activations), ...draw.some({ residual: draw.pick(dtypes) }) },
  ]),
  quantizedLayer: problem(quantizedLayerCase)((draw) => [quantizedLayer(draw)]),
  layerBackward: problem(layerBackwardCase)((draw) => {
    const { dtypes: [x, weights] = ["f32", "f32"], ...rest } = layerProblem(draw, smoothActivations);
    const { hiddenSize, intermediateSize, tokens, topK } = rest;
    // Of few sums of rows that were rounded to 16 bits, all may cancel.
    const few = Math.min(hiddenSize, intermediateSize) < 16 || tokens < 4;
    const dtypes = [few ? "f32" : x, weights] as const;
    // Through a single weight that is divided by itself, what reaches the router cancels: only rounding errors are left.
    const cancels = topK === 1 && { normalize: false };
    return [{ ...rest, ...cancels, dtypes, ...draw.some({ recompute: true, offload: true }) }];
  }),
} satisfies Record<Fuzzed | "quantizedLayer", Problem>;

function layerProblem(draw: Draw, from: readonly Activation[]): LayerProblem {
  const experts = draw.integer(1, 12);
  const { scale, normalize, scoring, topK, ...rule }: GatingRuleOptions = gatingRule(draw, experts);
  const [weightOn, outputActivation] = [draw.pick(weightPlaces), draw.pick(outputActivations)];
  const gate = weightOn === "input" ? "none" : draw.pick(sharedGates);
  const shared = outputActivation === "none" && draw.chance(0.3);
  const tokens = draw.size(40);
  const activation = draw.pick(from);
  const clamp = isClamped(activation) && draw.chance(0.5) && { clamp: { limit: draw.pick([0.5, 2, Infinity]) } };
  const given = draw.pick([undefined, undefined, "routing", "expertIds"] as const);
  const hashes = rule.groups === undefined && scoring !== "sparsemixer" && given !== "expertIds";
  const hashed = hashes && draw.chance(0.2);
  return {
    tokens,
    hiddenSize: draw.integer(1, 100),
    intermediateSize: draw.integer(1, 70),
    numExperts: experts,
    topK,
    ...rule,
    ...(scale !== undefined && { scale }),
    ...(normalize !== undefined && { normalize }),
    ...(scoring !== undefined && { scoring }),
    ...(hashed && { hashRouting: { vocabularySize: draw.integer(1, 50) } }),
    activation,
    multiplier: draw.chance(0.2),
    weightOn,
    outputActivation,
    ...(shared && { sharedExpert: { intermediateSize: draw.integer(1, 100), gate, ...clamp } }),
    ...((!shared || gate !== "softmax") && draw.chance(0.2) && { latent: latent(draw) }),
    dtypes: [draw.pick(dtypes), draw.pick(dtypes)],
    biases: draw.chance(0.3),
    sequences: divisor(draw, Math.max(tokens, 1)),
    ...(given && { [given]: draw.pick(spreads) }),
  };
}

/** Experts in one format or in one for each matrix, and perhaps a shared expert in another. */
function quantizedLayer(draw: Draw): QuantizedLayerProblem {
  const format = () => draw.pick(dequantizableFormats);
  const change = () => draw.pick(inputChanges);
  const numExperts = draw.integer(1, 8);
  const shared = draw.chance(0.3) && { shared: [format(), change()] as const };
  return {
    format: draw.chance(0.5) ? format() : { gate: format(), up: format(), down: format() },
    change: change(),
    x: draw.pick(dtypes),
    ...shared,
    ...(!shared && draw.some({ weightOn: "input" as const })),
    activation: draw.pick(activations),
    sizes: {
      hiddenSize: draw.integer(16, 300),
      intermediateSize: draw.integer(16, 200),
      numExperts,
      topK: draw.integer(1, numExperts),
      tokens: draw.size(60),
    },
  };
}

/** A norm of few sums of rows that were rounded to 16 bits could divide by what is left of them. */
function latent(draw: Draw) {
  return { size: draw.integer(16, 100), ...(draw.chance(0.5) && { norm: { epsilon: 0.01 } }) };
}

/** Those whose derivatives jump: a row within rounding of that place may be on either side. */
const jumping: readonly Activation[] = ["relu", "reglu", "swiglu_clamped", "swiglu_clamped_after"];

export const smoothActivations = activations.filter((name) => !jumping.includes(name));

function sharedExperts(draw: Draw) {
  const problem = { ...choices(draw), sharedExperts: draw.integer(0, 4) };
  const first = draw.integer(0, problem.experts - 1);
  const bank = { first, count: draw.integer(1, problem.experts - first) };
  return { ...problem, ...draw.some({ bank, gate: draw.pick([1, 2] as const) }) };
}

function activation(draw: Draw) {
  const activation = draw.pick(activations);
  return {
    activation,
    shared: isClamped(activation) && draw.chance(0.3),
    rows: draw.size(60),
    outputs: draw.size(600),
    dtypes: [draw.pick(dtypes), draw.pick(dtypes), draw.pick(dtypes)] as const,
    ...draw.some({ multiplier: draw.pick(dtypes) }),
  };
}

function slots(draw: Draw) {
  return { tokens: draw.size(100), topK: draw.integer(1, 9), rows: draw.size(200), hidden: draw.size(300) };
}

/** Of an operator and its gradient. */
function meansArguments(draw: Draw): Parameters<typeof meansCase> {
  const tokens = draw.size(500);
  return [tokens, draw.size(60), divisor(draw, Math.max(tokens, 1)), draw.chance(0.5), draw.chance(0.3)];
}

function lossArguments(draw: Draw): Parameters<typeof lossCase> {
  const options = { choices: "first", normalization: "tokens", scoring: draw.pick(expertScorings) } as const;
  return [batch(draw), draw.some(options), draw.pick(dtypes)];
}

function zLossArguments(draw: Draw): Parameters<typeof zLossCase> {
  return [draw.size(200), draw.integer(1, 200), "normal", draw.pick(dtypes), draw.chance(0.5)];
}

/** A batch of sequences, some of them masked. */
function batch(draw: Draw) {
  const sizes = choices(draw, 400);
  const sequences = divisor(draw, Math.max(sizes.tokens, 1));
  return { ...sizes, sequences, masked: draw.chance(0.3) };
}
