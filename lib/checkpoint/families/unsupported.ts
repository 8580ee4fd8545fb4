const perGroup = "each of its groups of experts chooses as many of them";

/** Families whose layers the formula of a layer cannot express, by their `model_type`, and why. */
export const unsupported: ReadonlyMap<unknown, string> = new Map([
  ["zaya", "its routers are networks that read each other"],
  ["doge", "its experts are pairs of keys"],
  ["interns1_pro", perGroup],
  ["PanguProMoE", perGroup],
  ["apertus2", "the gate of its experts is a softsign"],
  ["Motif", "the activation of its experts is a polynomial with coefficients of their own"],
  [
    "nomic_bert",
    "it adds a bias to the sum of its experts, whatever these weigh; llama.cpp's GGUF files do without it",
  ],
]);
