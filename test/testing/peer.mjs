// A subject in another process, written from the documentation of the pipe alone: it shares no code with the package. Its
// argument says which mistake it makes.

import { createInterface } from "node:readline";

const [mistake = "none"] = process.argv.slice(2);

const types = { f32: Float32Array, i32: Int32Array, u8: Uint8Array, f16: Uint16Array, bf16: Uint16Array };

/** The values of an array; bfloat16 is the upper half of float32. */
function valuesOf({ dtype, data }) {
  const raw = new types[dtype](Uint8Array.from(Buffer.from(data, "base64")).buffer);
  return dtype === "bf16" ? new Float32Array(Uint32Array.from(raw, (bits) => bits << 16).buffer) : raw;
}

const encoded = (values) => Buffer.from(values.buffer).toString("base64");

/** Product of a row of a matrix with K columns and a row of another. */
function dot(a, first, b, second, columns) {
  let sum = 0;
  for (let k = 0; k < columns; k++) sum += a[first * columns + k] * b[second * columns + k];
  return sum;
}

function permute({ x, tokenOfRow, outputs }) {
  const [rows, width] = outputs.rows.shape;
  const values = valuesOf({ ...x, dtype: x.dtype === "bf16" ? "f16" : x.dtype });
  const result = new values.constructor(rows * width);
  valuesOf(tokenOfRow).forEach((token, row) => {
    if (token >= 0) result.set(values.subarray(token * width, (token + 1) * width), row * width);
  });
  return { rows: encoded(result) };
}

/** Weights of four bits, two to a byte, the lower first, with one bf16 scale for 32 columns. */
function groupedGemm({ x, weight, offsets, bias, tokenOfRow, activation, outputs }) {
  const plain = weight.format === "i4_g32_bf16" && weight.inputScale === undefined && weight.inputOrder === undefined;
  if (!plain || x.dtype !== "f32" || activation !== "none" || tokenOfRow !== undefined) return undefined;
  const [experts, rows, columns] = weight.shape;
  const [codes, scales, values] = [valuesOf(weight.codes), valuesOf(weight.scales), valuesOf(x)];
  const [bytes, groups] = [codes.length / (experts * rows), scales.length / (experts * rows)];
  const matrix = Float32Array.from({ length: experts * rows * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    const code = (codes[row * bytes + (column >> 1)] >> (4 * (column & 1))) & 15;
    return (code >= 8 ? code - 16 : code) * scales[row * groups + Math.floor(column / 32)];
  });
  const [ends, biases] = [valuesOf(offsets), bias && valuesOf(bias)];
  const result = new Float32Array(outputs.y.shape[0] * rows);
  for (let expert = 0; expert < experts; expert++) {
    for (let row = ends[expert]; row < ends[expert + 1]; row++) {
      for (let n = 0; n < rows; n++) {
        const product = dot(values, row, matrix, expert * rows + n, columns);
        result[row * rows + n] = product + (biases ? biases[expert * rows + n] : 0);
      }
    }
  }
  return { y: encoded(result) };
}

function sgd({
  parameter,
  gradient,
  squaredNorm,
  velocity,
  learningRate,
  weightDecay,
  maxNorm,
  momentum,
  nesterov,
  outputs,
}) {
  if (outputs.copy !== undefined) return undefined;
  const factor = squaredNorm ? Math.min(1, maxNorm / (Math.sqrt(valuesOf(squaredNorm)[0]) + 1e-6)) : 1;
  const [p, g, v] = [valuesOf(parameter), valuesOf(gradient), valuesOf(velocity)];
  for (let i = 0; i < p.length; i++) {
    let change = factor * g[i] + weightDecay * p[i];
    if (v.length > 0) {
      v[i] = momentum * v[i] + change;
      change = nesterov ? change + momentum * v[i] : v[i];
    }
    p[i] -= learningRate * change;
  }
  // Numbers in a list are an answer too.
  return { parameter: Array.from(p), velocity: encoded(v) };
}

/** A layer of SwiGLU experts with a softmax over all logits. */
function layer({ x, routerInput, tokenIds, expertIds, weights, description, routing, training, residual }) {
  const { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK } = description;
  const { router, experts: own, ...more } = weights;
  const plain =
    Object.keys(more).length === 0 && Object.keys(own).length === 3 && own.gate?.dtype === "f32" && x.dtype === "f32";
  const known = ["softmax", "swiglu", "output", "none"];
  const { scoring, activation, weightOn, outputActivation, capacity, expertChoice, hierarchy, numGroups } = description;
  const formula = [scoring, activation, weightOn, outputActivation].every((name, index) => name === known[index]);
  if (!plain || !formula || capacity || expertChoice || hierarchy || numGroups > 1) return undefined;
  if (
    routerInput ||
    tokenIds ||
    expertIds ||
    routing ||
    training ||
    residual ||
    description.normalization !== "none" ||
    description.scale !== 1
  )
    return undefined;
  const [tokens, logitsOf] = [valuesOf(x), valuesOf(router)];
  const [gate, up, down] = [own.gate, own.up, own.down].map(valuesOf);
  const result = new Float32Array(tokens.length);
  for (let token = 0; token < tokens.length / hidden; token++) {
    const logits = Array.from({ length: experts }, (_, expert) => dot(tokens, token, logitsOf, expert, hidden));
    const largest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    const chosen = [...powers.keys()].sort((a, b) => powers[b] - powers[a] || a - b).slice(0, topK);
    for (const expert of chosen) {
      const values = Float32Array.from({ length: inner }, (_, i) => {
        const g = dot(tokens, token, gate, expert * inner + i, hidden);
        return (g / (1 + Math.exp(-g))) * dot(tokens, token, up, expert * inner + i, hidden);
      });
      for (let h = 0; h < hidden; h++) {
        result[token * hidden + h] += (powers[expert] / sum) * dot(values, 0, down, expert * hidden + h, inner);
      }
    }
  }
  return { y: encoded(result) };
}

const operators = { permute, groupedGemm, sgd, layer };
const write = (value) => process.stdout.write(`${typeof value === "string" ? value : JSON.stringify(value)}\n`);

if (mistake === "no greeting") write("hello");
else if (mistake === "unknown operator") write({ name: "peer", operators: ["frobnicate"] });
else write({ name: "peer", operators: Object.keys(operators) });

let calls = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { id, operator, inputs } = JSON.parse(line);
  calls += 1;
  if (mistake === "ends" || (mistake === "ends at the second call" && calls === 2)) process.exit(3);
  else if (mistake === "garbage") write("no JSON");
  else if (mistake === "throws") write({ error: "out of registers" });
  else if (mistake === "short") write({ outputs: { rows: "AAAA" } });
  else {
    const outputs = operators[operator](inputs);
    const answer = outputs === undefined ? { unsupported: "another formula" } : { outputs };
    // With the ids of calls, or as the first versions of the protocol had it.
    write(mistake === "no ids" ? answer : { id, ...answer });
    if (mistake === "answers twice") write({ id, ...answer });
    if (mistake === "prints") write("done");
  }
}
