import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { ClampedActivation, ClampOptions } from "../../lib/core/layer/activation.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, kernelPaths, openForTests } from "../support/devices.js";

// A layer of one expert that every token chooses with weight 1 and of a shared expert, computed here by loops.

const [tokens, hidden, inner] = [5, 6, 4];
const none = Number.POSITIVE_INFINITY;
const random = new Random(9);
const x = random.normals(tokens * hidden, 2);
const drawn = (rows: number, columns: number) => random.normals(rows * columns, 0.7);
const expert = () => ({ gate: drawn(inner, hidden), up: drawn(inner, hidden), down: drawn(hidden, inner) });
const [own, shared] = [expert(), expert()];

type Clamped = (gate: number, up: number, limit: number) => number;
const sigmoid = (value: number) => 1 / (1 + Math.exp(-value));
const within = (value: number, limit: number) => Math.max(-limit, Math.min(limit, value));
const soft = (value: number, limit: number) => (limit === none ? value : limit * Math.tanh(value / limit));

const formulas: Readonly<Record<ClampedActivation, Clamped>> = {
  swiglu_clamped: (gate, up, limit) => Math.min(gate, limit) * sigmoid(Math.min(gate, limit)) * within(up, limit),
  swiglu_clamped_after: (gate, up, limit) => Math.min(gate * sigmoid(gate), limit) * within(up, limit),
  situ: (gate, up, limit) => soft(gate, limit) * sigmoid(gate) * soft(up, limit),
};

const at = (values: Float32Array, index: number) => values[index] as number;

function run({ gate, up, down }: typeof own, activate: Clamped, limit: number): number[] {
  return Array.from({ length: tokens * hidden }, (_, index) => {
    const [token, column] = [Math.floor(index / hidden), index % hidden];
    const product = (matrix: Float32Array, row: number) =>
      Array.from({ length: hidden }, (_, k) => at(x, token * hidden + k) * at(matrix, row * hidden + k)).reduce(
        (sum, value) => sum + value,
      );
    return Array.from(
      { length: inner },
      (_, i) => activate(product(gate, i), product(up, i), limit) * at(down, column * inner + i),
    ).reduce((sum, value) => sum + value);
  });
}

describe.each(deviceNames)("limits of experts on %s", (name) => {
  const device = openForTests(name);

  const made = (activation: ClampedActivation, limit: number, ofShared: number | undefined) => {
    const matrix = (values: Float32Array, rows: number) => device().tensor(values, [rows, values.length / rows]);
    const matrices = ({ gate, up, down }: typeof own) => ({
      gate: matrix(gate, inner),
      up: matrix(up, inner),
      down: matrix(down, hidden),
    });
    const clamp = (limit: number): ClampOptions => ({ alpha: 1, limit, upLimit: limit, offset: 0 });
    return MoeLayer.create({
      device: device(),
      hiddenSize: hidden,
      intermediateSize: inner,
      numExperts: 1,
      topK: 1,
      activation,
      clamp: clamp(limit),
      router: device().zeros([1, hidden], "f32"),
      experts: [matrices(own)],
      sharedExpert: { intermediateSize: inner, ...(ofShared !== undefined && { clamp: clamp(ofShared) }) },
      shared: matrices(shared),
    });
  };

  test.each(
    (Object.keys(formulas) as ClampedActivation[]).flatMap((activation) => [
      { activation, limit: 0.5, ofShared: undefined },
      { activation, limit: 0.5, ofShared: 1.25 },
      { activation, limit: 0.5, ofShared: none },
      { activation, limit: none, ofShared: 0.5 },
    ]),
  )("$activation $limit, shared $ofShared: forward, captured, saved and for a backward pass", async (problem) => {
    const { activation, limit, ofShared } = problem;
    const activate = formulas[activation];
    const others = run(shared, activate, ofShared ?? limit);
    const expected = run(own, activate, limit).map((value, index) => value + at(Float32Array.from(others), index));
    using layer = made(activation, limit, ofShared);
    const input = device().tensor(x, [tokens, hidden]);
    const isRight = (y: ArrayLike<number>) => expect(relativeError(y, expected)).toBeLessThan(2e-6);
    isRight(layer.forward(input).dataSync());
    isRight(layer.forward(input, { save: true }).y.dataSync());
    using captured = layer.capture(tokens);
    captured.x.write(x);
    captured.replay();
    isRight(captured.y.dataSync() as ArrayLike<number>);
    using directory = temporaryDirectory();
    const file = `${directory.path}/layer.safetensors`;
    await layer.save(file);
    using loaded = await MoeLayer.load(file, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    isRight(loaded.forward(input).dataSync());
  });
});

describe.each(kernelPaths)("a gate and an up of different formats on $label", (path) => {
  const device = openForTests(path);
  const reference = openForTests("reference");
  const [width, columns] = [40, 20];

  const output = (on: Device, activation: ClampedActivation) => {
    const random = new Random(activation);
    const matrix = (format: string, rows: number, columns: number) => ({
      ...randomQuantized(on, random, format, [rows, columns]),
      columns,
    });
    using layer = MoeLayer.create({
      device: on,
      hiddenSize: width,
      intermediateSize: columns,
      numExperts: 1,
      topK: 1,
      activation,
      clamp: { offset: 1 },
      router: on.zeros([1, width], "f32"),
      experts: [
        {
          gate: matrix("i4_g32_bf16", columns, width),
          up: matrix("i8_channel_f32", columns, width),
          down: matrix("u4_g32_f16", width, columns),
        },
      ],
    });
    using input = on.tensor(new Random("tokens").normals(tokens * width), [tokens, width]);
    return layer.forward(input).dataSync();
  };

  // Kernels compute whole groups of columns. Behind the last one an activated up is 1, and codes of 0 may mean any number.
  test.each(Object.keys(formulas) as ClampedActivation[])(
    "%s: nothing is added by columns behind the last",
    (activation) => {
      const expected = output(reference(), activation);
      expect(relativeError(output(device(), activation), expected)).toBeLessThan(2e-6);
    },
  );
});
