import type { Case } from "../case.js";
import { type LayerProblem, layerCase } from "./layer_case.js";

const small = { hiddenSize: 51, intermediateSize: 33, numExperts: 6, topK: 2, tokens: 23 } as const;
const bf16 = { dtypes: ["bf16", "bf16"] } as const;
const shared = { sharedExpert: { intermediateSize: 40 } } as const;
const norm = { latent: { size: 20, norm: { epsilon: 0.01 } } } as const;
const latent = { latent: { size: 20 } } as const;

/** Layers whose routed experts work on a projection of the tokens. */
export const latentLayers: readonly LayerProblem[] = [
  { ...small, ...latent, logits: true },
  { ...small, ...latent, ...shared, activation: "relu2", scoring: "sigmoid", normalize: true, scale: 5 },
  { ...small, ...norm, ...shared, biases: true, residual: "f32" },
  { ...small, ...norm, dtypes: ["f32", "bf16"], residual: "bf16" },
  { ...small, ...latent, ...bf16, ...shared, biases: true },
  { ...small, ...norm, ...bf16, sharedExpert: { intermediateSize: 33, gate: "sigmoid" }, residual: "f32" },
  { ...small, latent: { size: 64 }, ...shared, weightOn: "input", multiplier: true },
  { ...small, ...norm, ...shared, routing: "some_dropped" },
  { ...small, ...norm, ...shared, capacity: { factor: 0.8 }, perExpertScale: true, separateRouterInput: true },
  { ...small, ...latent, ...shared, tokens: 0 },
  { ...small, latent: { size: 1, norm: {} }, tokens: 1, sharedExpert: { intermediateSize: 1 } },
];

export const layerLatentCases: readonly Case[] = latentLayers.map(layerCase);
