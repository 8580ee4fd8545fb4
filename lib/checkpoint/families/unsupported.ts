const perGroup = "each of its groups of experts chooses as many of them";

const logitBias =
  "its bias for the choice of experts is added to the logits of the router, and their scores are sigmoids";

/** Families whose layers the formula of a layer cannot express, by their `model_type`, and why. */
export const unsupported: ReadonlyMap<unknown, string> = new Map([
  ["zaya", "its routers are networks that read each other"],
  ["doge", "its experts are pairs of keys"],
  ["interns1_pro", perGroup],
  ["PanguProMoE", perGroup],
  ["kolibri1", logitBias],
  ["apertus2", logitBias],
  ["Motif", "the activation of its experts is a polynomial with coefficients of their own"],
  [
    "nomic_bert",
    "it adds a bias to the sum of its experts, whatever these weigh; llama.cpp's GGUF files do without it",
  ],
]);
