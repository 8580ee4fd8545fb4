import type { Case } from "../case.js";
import { type LayerProblem, layerCase } from "./layer_case.js";
import { layerFeatureCases } from "./layer_features.js";

const scaledModels: readonly LayerProblem[] = [
  {
    model: "Mixtral-8x7B",
    hiddenSize: 128,
    intermediateSize: 448,
    numExperts: 8,
    topK: 2,
    normalize: true,
    tokens: 17,
  },
  { model: "OLMoE-1B-7B", hiddenSize: 64, intermediateSize: 32, numExperts: 64, topK: 8, tokens: 45 },
  {
    model: "Qwen3-30B-A3B",
    hiddenSize: 64,
    intermediateSize: 24,
    numExperts: 128,
    topK: 8,
    normalize: true,
    tokens: 33,
  },
  { model: "Qwen1.5-MoE-A2.7B", hiddenSize: 64, intermediateSize: 44, numExperts: 60, topK: 4, tokens: 13 },
  { model: "DeepSeek-V2-Lite", hiddenSize: 64, intermediateSize: 44, numExperts: 64, topK: 6, scale: 1, tokens: 13 },
  { model: "DeepSeek-V2", hiddenSize: 40, intermediateSize: 12, numExperts: 160, topK: 6, scale: 16, tokens: 9 },
  { model: "DBRX", hiddenSize: 96, intermediateSize: 168, numExperts: 16, topK: 4, normalize: true, tokens: 9 },
  {
    model: "gpt-oss-20b",
    hiddenSize: 90,
    intermediateSize: 90,
    numExperts: 32,
    topK: 4,
    scoring: "softmax_selected",
    biases: true,
    dtypes: ["bf16", "bf16"],
    tokens: 9,
  },
  {
    model: "Gemma-4-26B",
    hiddenSize: 88,
    intermediateSize: 22,
    numExperts: 128,
    topK: 8,
    activation: "geglu_tanh",
    tokens: 7,
  },
  {
    model: "Switch-Base-16",
    hiddenSize: 96,
    intermediateSize: 384,
    numExperts: 16,
    topK: 1,
    activation: "relu",
    tokens: 21,
  },
  {
    model: "Grok-1",
    hiddenSize: 96,
    intermediateSize: 512,
    numExperts: 8,
    topK: 2,
    activation: "geglu",
    dtypes: ["bf16", "bf16"],
    tokens: 7,
  },
  { model: "Kimi-K2", hiddenSize: 56, intermediateSize: 16, numExperts: 384, topK: 8, normalize: true, tokens: 7 },
  {
    model: "Nemotron-Super",
    hiddenSize: 32,
    intermediateSize: 21,
    numExperts: 512,
    topK: 22,
    dtypes: ["f16", "f16"],
    tokens: 5,
  },
];

const small = { hiddenSize: 51, intermediateSize: 33, numExperts: 7, topK: 2 } as const;
const floats = ["f32", "f16", "bf16"] as const;

export const layerCases: readonly Case[] = [
  ...scaledModels.map(layerCase),
  ...floats.flatMap((x) =>
    floats.flatMap((weights) => [
      layerCase({ ...small, tokens: 13, dtypes: [x, weights] }),
      layerCase({ ...small, tokens: 13, dtypes: [x, weights], routing: "some_dropped" }),
    ]),
  ),
  ...(["relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_tanh", "reglu", "none"] as const).flatMap(
    (activation) => [
      layerCase({ ...small, tokens: 9, activation }),
      layerCase({ ...small, tokens: 9, activation, biases: true, routing: "even", dtypes: ["bf16", "bf16"] }),
    ],
  ),
  ...(
    [
      { ...small, tokens: 0 },
      { ...small, tokens: 0, routing: "even" },
      { ...small, tokens: 1 },
      { ...small, tokens: 45, biases: true },
      { ...small, tokens: 33, routing: "one_expert" },
      { ...small, tokens: 33, routing: "uneven" },
      { ...small, tokens: 5, routing: "all_dropped", biases: true },
      { hiddenSize: 1, intermediateSize: 1, numExperts: 1, topK: 1, tokens: 1 },
      { hiddenSize: 7, intermediateSize: 1, numExperts: 1, topK: 1, tokens: 33, normalize: true },
      { hiddenSize: 33, intermediateSize: 45, numExperts: 6, topK: 6, tokens: 7, normalize: true },
      { hiddenSize: 2880, intermediateSize: 7, numExperts: 3, topK: 2, tokens: 3, dtypes: ["bf16", "bf16"] },
      { hiddenSize: 7, intermediateSize: 2880, numExperts: 3, topK: 2, tokens: 3 },
      { hiddenSize: 65, intermediateSize: 63, numExperts: 4, topK: 1, tokens: 130, routing: "uneven" },
      { hiddenSize: 16, intermediateSize: 9, numExperts: 1100, topK: 10, tokens: 5 },
      { hiddenSize: 24, intermediateSize: 8, numExperts: 896, topK: 16, tokens: 3, routing: "even" },
      { hiddenSize: 45, intermediateSize: 33, numExperts: 72, topK: 14, tokens: 9, dtypes: ["f16", "bf16"] },
      { hiddenSize: 33, intermediateSize: 51, numExperts: 96, topK: 6, tokens: 300, routing: "even" },
    ] satisfies LayerProblem[]
  ).map(layerCase),
  ...layerFeatureCases,
];
