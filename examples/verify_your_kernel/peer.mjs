// An operator in a program of its own, as processSubject("node", { args: ["peer.mjs"] }) starts it: calls come from standard
// input, answers go to standard output.

import { createInterface } from "node:readline";

// To permute rows, the bits of f16 and bf16 need not be understood.
const arrays = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array, i32: Int32Array };
const valuesOf = ({ dtype, data }) => new arrays[dtype](Uint8Array.from(Buffer.from(data, "base64")).buffer);

const operators = {
  permute({ x, tokenOfRow, outputs }) {
    const [rows, hidden] = outputs.rows.shape;
    const values = valuesOf(x);
    const result = new values.constructor(rows * hidden);
    valuesOf(tokenOfRow).forEach((token, row) => {
      if (token >= 0) result.set(values.subarray(token * hidden, (token + 1) * hidden), row * hidden);
    });
    return { rows: Buffer.from(result.buffer).toString("base64") };
  },
};

console.log(JSON.stringify({ name: "mine", operators: Object.keys(operators) }));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, operator, inputs } = JSON.parse(line);
  console.log(JSON.stringify({ id, outputs: operators[operator](inputs) }));
}
