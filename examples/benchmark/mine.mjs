// A contender for moe-kernels bench: one operator in plain JavaScript.
import { toFloat32 } from "moe-kernels/testing";

export default {
  name: "mine",
  operators: {
    // y[t] = the sum over j of weights[t, j] * rows[rowOfSlot[t, j]]
    combine({ rows, rowOfSlot, weights, outputs }) {
      const [tokens, hidden] = outputs.y.shape;
      const slots = rowOfSlot.shape[1];
      const values = toFloat32(rows);
      const y = new Float32Array(tokens * hidden);
      rowOfSlot.data.forEach((row, slot) => {
        const first = Math.floor(slot / slots) * hidden;
        if (row < 0) return;
        for (let h = 0; h < hidden; h++) y[first + h] += weights.data[slot] * values[row * hidden + h];
      });
      return { y };
    },
  },
};
