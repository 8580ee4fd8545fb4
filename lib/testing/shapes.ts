import type { MoeLayerConfig } from "../layer/description/config.js";

const softmaxTop = { scoring: "softmax", activation: "swiglu" } as const;

/**
 * Full-size layers, for benchmarks and runs: published models by name, and four that cover what matters for speed (A
 * and B: wide experts; C: many narrow ones; D: fits in caches).
 */
export const shapes: Readonly<Record<string, MoeLayerConfig>> = {
  "Mixtral-8x7B": {
    hiddenSize: 4096,
    intermediateSize: 14336,
    numExperts: 8,
    topK: 2,
    normalize: true,
    ...softmaxTop,
  },
  "OLMoE-1B-7B": {
    hiddenSize: 2048,
    intermediateSize: 1024,
    numExperts: 64,
    topK: 8,
    normalize: false,
    ...softmaxTop,
  },
  "Qwen3-30B-A3B": {
    hiddenSize: 2048,
    intermediateSize: 768,
    numExperts: 128,
    topK: 8,
    normalize: true,
    ...softmaxTop,
  },
  A: { hiddenSize: 1024, intermediateSize: 3584, numExperts: 8, topK: 2, normalize: true, ...softmaxTop },
  B: { hiddenSize: 2048, intermediateSize: 1024, numExperts: 64, topK: 8, normalize: false, ...softmaxTop },
  C: { hiddenSize: 2048, intermediateSize: 768, numExperts: 128, topK: 8, normalize: true, ...softmaxTop },
  D: { hiddenSize: 512, intermediateSize: 1024, numExperts: 8, topK: 2, normalize: true, ...softmaxTop },
};
