import { drops, expertScorings } from "../../core/layer/routing_rule.js";
import type { Case } from "../case.js";
import { type LayerProblem, layerCase } from "./layer_case.js";

const small = { hiddenSize: 51, intermediateSize: 33, numExperts: 6, topK: 2, tokens: 36 } as const;
const bf16 = { dtypes: ["bf16", "bf16"] } as const;
const hierarchical = { ...small, numExperts: 12, topK: 4, hierarchy: { numGroups: 4, topK: 2 } } as const;
const likeGemma = {
  separateRouterInput: true,
  routerNorm: { scale: small.hiddenSize ** -0.5 },
  perExpertScale: true,
  normalize: true,
} as const;
const identity = { identityExperts: 2 } as const;
const hashed = { ...small, hashRouting: { vocabularySize: 20 }, normalize: true } as const;
const given = { ...small, expertIds: "some_dropped" } as const;
const choosing = { ...small, topK: 6 } as const;

/** The routings of layers. */
export const layerRoutings: readonly LayerProblem[] = [
  ...drops.flatMap((drop): LayerProblem[] => [
    { ...small, capacity: { tokens: 7, drop } },
    { ...small, capacity: { factor: 0.7, drop, renormalize: true }, normalize: true, biases: true },
    { ...small, ...bf16, capacity: { factor: 0.8, drop, per: "sequence" }, sequences: 4 },
  ]),
  ...expertScorings.flatMap((scoring): LayerProblem[] => [
    { ...choosing, expertChoice: { factor: 2 }, scoring },
    { ...choosing, ...bf16, expertChoice: { tokens: 5 }, scoring, biases: true, sequences: 3 },
  ]),
  { ...small, capacity: { tokens: 0 }, biases: true },
  { ...small, capacity: { tokens: 36 } },
  { ...small, capacity: { tokens: 2 }, sharedExpert: { intermediateSize: 40 } },
  { ...small, capacity: { tokens: 9 }, tokens: 0 },
  { ...small, capacity: { factor: 1, per: "sequence" }, tokens: 0, sequences: 3 },
  { ...small, tokens: 12, sequences: 3 },
  { ...small, tokens: 12, sequences: 3, routing: "some_dropped" },
  { ...small, noisy: {}, scoring: "softmax_selected", biases: true },
  { ...small, ...bf16, noisy: { epsilon: 1 }, sequences: 4, capacity: { factor: 1 } },
  { ...small, noisy: {}, tokens: 0 },
  { ...hierarchical, scoring: "softmax_selected", biases: true, logits: true },
  { ...hierarchical, ...bf16, hierarchy: { numGroups: 3, topK: 2, normalize: true }, normalize: true, scale: 2.5 },
  {
    ...hierarchical,
    hierarchy: { numGroups: 2, topK: 1, scoring: "sigmoid" },
    topK: 3,
    sharedExpert: { intermediateSize: 40 },
  },
  { ...hierarchical, noisy: {}, scoring: "softmax_selected", capacity: { factor: 1 } },
  { ...hierarchical, routerJitter: 0.1, capacity: { tokens: 5, per: "sequence" }, sequences: 4 },
  { ...hierarchical, tokens: 0 },
  { ...small, routerJitter: 0.1, sharedExpert: { intermediateSize: 40 } },
  { ...choosing, noisy: {}, expertChoice: { factor: 2 } },
  { ...choosing, expertChoice: { factor: 1 }, tokens: 0 },
  { ...choosing, expertChoice: { tokens: 0 } },
  { ...choosing, expertChoice: { factor: 1 }, sharedExpert: { intermediateSize: 33 } },
  { ...small, separateRouterInput: true, logits: true },
  { ...small, ...bf16, separateRouterInput: true, routerInput: "f32", biases: true, sequences: 4 },
  { ...small, routerNorm: { epsilon: 0.01, scale: 0.5 }, logits: true, normalize: true },
  { ...small, perExpertScale: true, scale: 1.5, biases: true },
  { ...small, ...bf16, ...likeGemma },
  { ...small, dtypes: ["f32", "bf16"], ...likeGemma, routerInput: "bf16" },
  { ...small, ...likeGemma, routerJitter: 0.1, capacity: { factor: 0.8, renormalize: true } },
  { ...hierarchical, ...likeGemma, noisy: {}, scoring: "softmax_selected", logits: true },
  { ...choosing, separateRouterInput: true, perExpertScale: true, expertChoice: { factor: 1 } },
  { ...small, ...likeGemma, tokens: 0 },
  { ...small, ...identity, selectionBias: true, scale: 6, logits: true },
  { ...small, ...bf16, ...identity, residual: "bf16", sharedExpert: { intermediateSize: 40, gate: "sigmoid" } },
  { ...small, ...identity, weightOn: "input", biases: true, routing: "some_dropped" },
  { ...small, ...bf16, ...identity, normalize: true, residual: "f32", capacity: { factor: 0.8 } },
  { ...choosing, ...identity, expertChoice: { factor: 1 } },
  { ...small, ...identity, tokens: 0 },
  { ...hashed, scoring: "sqrt_softplus", scale: 1.5, sharedExpert: { intermediateSize: 33 }, logits: true },
  { ...hashed, ...bf16, scoring: "sigmoid", biases: true, sequences: 4, capacity: { factor: 0.8 } },
  { ...hashed, ...likeGemma, scoring: "softmax_selected" },
  { ...hashed, routerJitter: 0.1, topK: 6 },
  { ...hashed, ...identity },
  { ...hashed, tokens: 0 },
  { ...given, logits: true },
  { ...given, scoring: "sigmoid", groups: { count: 3, top: 1 }, selectionBias: true, normalize: true, scale: 2.5 },
  { ...given, ...bf16, scoring: "softmax_selected", biases: true, sequences: 4, capacity: { factor: 0.8 } },
  { ...given, ...likeGemma, noisy: {}, expertIds: "uneven" },
  { ...given, ...identity, expertIds: "all_dropped" },
];

/**
 * Layers with limited capacity, expert choice, a hierarchical gate, hash routing, experts that are given, noise in training,
 * routers with tokens of their own, scales of experts, experts that return their input, and sequences of tokens.
 */
export const layerRoutingCases: readonly Case[] = layerRoutings.map(layerCase);
