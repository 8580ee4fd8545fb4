import type { Balance, ModelConfig } from "../../build/examples/transformer/model/config.js";

/** A decoder that is trained within a second. */
export function tinyModel(balance: Balance): ModelConfig {
  return {
    vocabulary: 256,
    hiddenSize: 16,
    layers: 2,
    heads: 2,
    intermediateSize: 16,
    context: 32,
    causal: true,
    norm: "rms",
    mixture: { experts: 4, topK: 2, intermediateSize: 8, balance },
  };
}

/** Options of the commands for a model of the same size. */
export const tinySize = [
  ...["--hidden", "16", "--layers", "2", "--heads", "2", "--intermediate", "16", "--context", "32"],
  ...["--experts", "4", "--sequences", "2", "--threads", "2"],
];
