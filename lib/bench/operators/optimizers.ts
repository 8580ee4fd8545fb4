import type { TestArray } from "../../testing/subject/subject.js";
import type { Draw } from "./draw.js";
import { f32, type OperatorCase, type Sizes } from "./operator_case.js";

const count = ({ intermediateSize, hiddenSize }: Sizes): number => intermediateSize * hiddenSize;

const zeros = (sizes: Sizes): TestArray => ({
  data: new Float32Array(count(sizes)),
  shape: [count(sizes)],
  dtype: "f32",
});

const normals = (draw: Draw, sizes: Sizes): TestArray => draw.normals([count(sizes)]);

/** What all steps take. A step is seen in the parameter, and however often it is repeated, nothing overflows. */
const step = { learningRate: 1e-3, weightDecay: 0, maxNorm: 0 };
const adamWNumbers = { ...step, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 1 };
const sgdNumbers = { ...step, momentum: 0.9, nesterov: false };

/** Steps of optimisers over one expert's matrix [I, H], in float32. */
export const optimizersCases: readonly OperatorCase[] = [
  {
    operator: "sumOfSquares",
    name: "sumOfSquares",
    inputs: (draw, sizes) => ({
      values: normals(draw, sizes),
      total: { data: new Float32Array(1), shape: [1], dtype: "f32" },
    }),
    outputs: () => ({ total: f32(1) }),
    operations: (sizes) => 2 * count(sizes),
    call:
      () =>
      ({ values, total }, _, { backend }) =>
        backend.sumOfSquares({ values: values.handle, total: total.handle }),
  },
  {
    operator: "adamW",
    name: "adamW",
    inputs: (draw, sizes) => ({
      parameter: normals(draw, sizes),
      gradient: normals(draw, sizes),
      mean: zeros(sizes),
      square: zeros(sizes),
      ...adamWNumbers,
    }),
    outputs: (sizes) => ({ parameter: f32(count(sizes)), mean: f32(count(sizes)), square: f32(count(sizes)) }),
    call:
      () =>
      ({ parameter, gradient, mean, square }, _, { backend }) =>
        backend.adamW({
          ...{ parameter: parameter.handle, gradient: gradient.handle, mean: mean.handle, square: square.handle },
          ...adamWNumbers,
        }),
  },
  {
    operator: "sgd",
    name: "sgd",
    inputs: (draw, sizes) => ({
      parameter: normals(draw, sizes),
      gradient: normals(draw, sizes),
      velocity: zeros(sizes),
      ...sgdNumbers,
    }),
    outputs: (sizes) => ({ parameter: f32(count(sizes)), velocity: f32(count(sizes)) }),
    call:
      () =>
      ({ parameter, gradient, velocity }, _, { backend }) =>
        backend.sgd({
          ...{ parameter: parameter.handle, gradient: gradient.handle, velocity: velocity.handle },
          ...sgdNumbers,
        }),
  },
];
