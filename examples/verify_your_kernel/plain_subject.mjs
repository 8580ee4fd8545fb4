// Three operators in plain JavaScript, written without a look at moe-kernels' own code:
//   npx moe-kernels verify --subject examples/verify_your_kernel/plain_subject.mjs
import { toFloat32 } from "moe-kernels/testing";

export default {
  name: "plain JavaScript",
  operators: {
    /** logits = x weightᵀ + bias */
    routerProjection({ x, weight, bias }) {
      const [tokens, hidden] = x.shape;
      const [experts] = weight.shape;
      const [xs, weights, biases] = [toFloat32(x), toFloat32(weight), bias && toFloat32(bias)];
      const logits = new Float32Array(tokens * experts);
      for (let t = 0; t < tokens; t++) {
        for (let e = 0; e < experts; e++) {
          let sum = 0;
          for (let h = 0; h < hidden; h++) sum += xs[t * hidden + h] * weights[e * hidden + h];
          logits[t * experts + e] = sum + (biases?.[e] ?? 0);
        }
      }
      return { logits };
    },

    /** Softmax over all experts, then the k largest; ties go to the lower id. */
    gating({ logits, rule }) {
      const [tokens, experts] = logits.shape;
      const values = toFloat32(logits);
      const { topK, normalization, scale } = rule;
      const ids = new Int32Array(tokens * topK);
      const weights = new Float32Array(tokens * topK);
      for (let t = 0; t < tokens; t++) {
        const row = values.subarray(t * experts, (t + 1) * experts);
        const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
        const exponentials = Array.from(row, (logit) => Math.exp(logit - largest));
        const total = exponentials.reduce((a, b) => a + b, 0);
        const chosen = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
        const scores = chosen.slice(0, topK).map((id) => exponentials[id] / total);
        const divisor = normalization === "sum" ? scores.reduce((a, b) => a + b, 0) : 1;
        ids.set(chosen.slice(0, topK), t * topK);
        weights.set(
          scores.map((score) => (score / divisor) * scale),
          t * topK,
        );
      }
      return { ids, weights };
    },

    /** y[t] = the sum of weights[t, j] * rows[rowOfSlot[t, j]]; -1 adds nothing. */
    combine({ rows, rowOfSlot, weights, outputs }) {
      const [tokens, topK] = rowOfSlot.shape;
      const hidden = rows.shape[1];
      const values = toFloat32(rows);
      const y = new Float32Array(outputs.y.shape[0] * hidden);
      for (let slot = 0; slot < tokens * topK; slot++) {
        const row = rowOfSlot.data[slot];
        if (row < 0) continue;
        const token = Math.floor(slot / topK);
        for (let h = 0; h < hidden; h++) y[token * hidden + h] += weights.data[slot] * values[row * hidden + h];
      }
      return { y };
    },
  },

  /** The gating above knows the softmax alone, and no rule for logits that are not finite. */
  supports(operator, { rule, logits, selectionBias }) {
    if (operator !== "gating") return true;
    return (
      rule.scoring === "softmax" &&
      rule.numGroups === 1 &&
      selectionBias === undefined &&
      ["none", "sum"].includes(rule.normalization) &&
      toFloat32(logits).every(Number.isFinite)
    );
  },
};
