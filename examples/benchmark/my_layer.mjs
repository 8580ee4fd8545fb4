// A contender for moe-kernels bench: a whole layer in plain JavaScript.
import { toFloat32 } from "moe-kernels/testing";

/** Matrices [E, N, K] as float32, converted once. */
const converted = new WeakMap();
function matrices(weight) {
  if (!converted.has(weight.data)) converted.set(weight.data, toFloat32(weight));
  return converted.get(weight.data);
}

/** The product of matrix `index` of a weight [..., N, K] and x [K]. */
function product(weight, index, x) {
  const [rows, columns] = weight.shape.slice(-2);
  const values = matrices(weight);
  const first = index * rows * columns;
  return Float32Array.from({ length: rows }, (_, row) =>
    x.reduce((sum, value, column) => sum + value * values[first + row * columns + column], 0),
  );
}

export default {
  name: "my layer",
  // The k largest of the softmax of the router's logits; experts with a SwiGLU, whose weights are not quantised.
  supports(_, { weights, description }) {
    const { scoring, activation } = description;
    return scoring === "softmax" && activation === "swiglu" && "data" in weights.experts.gate;
  },
  operators: {
    layer({ x, weights, config, outputs }) {
      const { router, experts } = weights;
      const [tokens, hidden] = outputs.y.shape;
      const y = new Float32Array(tokens * hidden);
      for (let token = 0; token < tokens; token++) {
        const values = toFloat32(x).subarray(token * hidden, (token + 1) * hidden);
        const scores = product(router, 0, values).map(Math.exp);
        const total = scores.reduce((sum, score) => sum + score, 0);
        const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
        const chosen = order.slice(0, config.topK);
        const sum = config.normalize ? chosen.reduce((all, expert) => all + scores[expert], 0) : total;
        for (const expert of chosen) {
          const gate = product(experts.gate, expert, values);
          const up = product(experts.up, expert, values);
          const inner = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]);
          const out = product(experts.down, expert, inner);
          for (let h = 0; h < hidden; h++) y[token * hidden + h] += (scores[expert] / sum) * out[h];
        }
      }
      return { y };
    },
  },
};
