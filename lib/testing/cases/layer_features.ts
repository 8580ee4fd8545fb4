import { activations } from "../../core/layer/activation.js";
import { sharedGates } from "../../core/layer/shared_gate.js";
import type { Case } from "../case.js";
import { type LayerProblem, layerCase } from "./layer_case.js";

const small = { hiddenSize: 51, intermediateSize: 33, numExperts: 6, topK: 2, tokens: 13 } as const;
const bf16 = { dtypes: ["bf16", "bf16"] } as const;

/** Widths of a shared expert: smaller than I, I itself, a multiple and between two multiples. */
const sharedWidths = [7, 33, 99, 50];

/** Layers with shared experts of several widths. */
export const sharedExpertLayers: readonly LayerProblem[] = [
  ...sharedWidths.flatMap((intermediateSize) =>
    sharedGates.flatMap((gate): LayerProblem[] => [
      { ...small, sharedExpert: { intermediateSize, gate } },
      { ...small, ...bf16, sharedExpert: { intermediateSize, gate }, biases: true },
    ]),
  ),
  ...sharedGates.flatMap((gate): LayerProblem[] => [
    {
      ...small,
      sharedExpert: { intermediateSize: 50, gate },
      activation: "gelu",
      biases: true,
      routing: "all_dropped",
    },
    { ...small, sharedExpert: { intermediateSize: 50, gate }, dtypes: ["f16", "bf16"], routing: "some_dropped" },
    { ...small, sharedExpert: { intermediateSize: 50, gate }, tokens: 0 },
    { ...small, sharedExpert: { intermediateSize: 50, gate }, tokens: 70, topK: 6 },
  ]),
];

/** Layers of every formula. */
export const layerFormulas: readonly LayerProblem[] = [
  ...activations.flatMap((activation): LayerProblem[] => [
    { ...small, activation, multiplier: true },
    { ...small, ...bf16, activation, biases: true },
  ]),
  { ...small, activation: "swiglu_clamped", biases: true, clamp: { alpha: 0.7, limit: 0.9, offset: -0.5 } },
  { ...small, ...bf16, activation: "swiglu_clamped", clamp: { alpha: 2, limit: 1.5, offset: 0 }, routing: "even" },
  { ...small, activation: "situ", clamp: { limit: 0.8, upLimit: 1.5 }, sharedExpert: { intermediateSize: 40 } },
  {
    ...small,
    activation: "swiglu_clamped_after",
    clamp: { limit: 0.4 },
    biases: true,
    sharedExpert: { intermediateSize: 50, gate: "sigmoid", clamp: { limit: 0.9 } },
  },
  {
    ...small,
    dtypes: ["f32", "bf16"],
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 0.7, offset: 0 },
    multiplier: true,
    sharedExpert: { intermediateSize: 33, clamp: { alpha: 1, limit: Number.POSITIVE_INFINITY, offset: 0 } },
    routing: "some_dropped",
  },
  { ...small, multiplier: true, biases: true, routing: "one_expert" },
  { ...small, ...bf16, multiplier: true, sharedExpert: { intermediateSize: 50 } },
  { ...small, outputActivation: "softmax", activation: "relu", biases: true },
  { ...small, ...bf16, outputActivation: "softmax", activation: "relu", biases: true, routing: "some_dropped" },
  { ...small, outputActivation: "softmax", hiddenSize: 300, weightOn: "input" },
  { ...small, weightOn: "input", biases: true },
  { ...small, ...bf16, weightOn: "input", biases: true },
  { ...small, weightOn: "input", activation: "relu", biases: true, routing: "some_dropped" },
  { ...small, ...bf16, weightOn: "input", multiplier: true, routing: "uneven" },
  { ...small, weightOn: "input", sharedExpert: { intermediateSize: 40 }, biases: true, topK: 1 },
  // More slots than a GPU sorts in one block.
  {
    hiddenSize: 9,
    intermediateSize: 5,
    numExperts: 4,
    topK: 2,
    tokens: 2900,
    weightOn: "input",
    multiplier: true,
    sharedExpert: { intermediateSize: 5 },
  },
  { ...small, ...bf16, logits: true },
  { ...small, logits: true, biases: true, tokens: 70, numExperts: 37 },
  { ...small, logits: true, tokens: 0 },
];

/** Layers of every routing rule. */
export const layerRules: readonly LayerProblem[] = [
  { ...small, selectionBias: true },
  { ...small, selectionBias: true, scoring: "softmax_selected", biases: true },
  { ...small, selectionBias: true, selectionKey: "logit", scoring: "sigmoid", normalize: true },
  { ...small, groups: { count: 3, top: 2, score: "max" }, scale: 2.5 },
  { ...small, groups: { count: 2, top: 1, score: "topk_sum" }, scoring: "softmax_selected" },
  { ...small, groups: { count: 3, top: 2, score: "top2_sum" }, selectionBias: true, scoring: "sqrt_softplus" },
  { ...small, scoring: "none", normalize: { by: "lp", power: 2 } },
  { ...small, scoring: "sparsemixer", tokens: 40 },
];

const scaledModels: readonly LayerProblem[] = [
  {
    model: "DeepSeek-V3",
    hiddenSize: 56,
    intermediateSize: 16,
    numExperts: 256,
    topK: 8,
    scoring: "sigmoid",
    selectionBias: true,
    groups: { count: 8, top: 4, score: "top2_sum" },
    normalize: { by: "sum_plus_epsilon", epsilon: 1e-20 },
    scale: 2.5,
    sharedExpert: { intermediateSize: 16 },
    ...bf16,
    tokens: 9,
  },
  {
    model: "Qwen2-57B-A14B",
    hiddenSize: 56,
    intermediateSize: 20,
    numExperts: 64,
    topK: 8,
    sharedExpert: { intermediateSize: 160, gate: "sigmoid" },
    tokens: 9,
  },
  {
    model: "Llama-4-Scout",
    hiddenSize: 80,
    intermediateSize: 128,
    numExperts: 16,
    topK: 1,
    scoring: "sigmoid",
    selectionKey: "logit",
    weightOn: "input",
    sharedExpert: { intermediateSize: 128 },
    ...bf16,
    tokens: 9,
  },
];

/** Layers whose outputs are added to a residual. */
const residualLayers: readonly LayerProblem[] = [
  { ...small, residual: "f32" },
  { ...small, ...bf16, residual: "bf16", biases: true },
  { ...small, dtypes: ["f16", "bf16"], residual: "f32", sharedExpert: { intermediateSize: 50, gate: "softmax" } },
  { ...small, residual: "bf16", weightOn: "input", routing: "some_dropped" },
  { ...small, residual: "f16", sharedExpert: { intermediateSize: 33 }, capacity: { factor: 1 }, tokens: 70 },
  { ...small, residual: "f32", routing: "all_dropped" },
  { ...small, residual: "f32", tokens: 0 },
];

/** Layers with parts beyond router and routed experts, and with every formula and routing rule. */
export const layerFeatureCases: readonly Case[] = [
  ...scaledModels,
  ...sharedExpertLayers,
  ...layerFormulas,
  ...layerRules,
  ...residualLayers,
].map(layerCase);
