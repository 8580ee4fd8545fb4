import type { TestArray } from "../../testing/subject/subject.js";
import type { Draw } from "./draw.js";
import type { CallTensors, OperatorCase, Sizes } from "./operator_case.js";

const count = ({ intermediateSize, hiddenSize }: Sizes): number => intermediateSize * hiddenSize;

const zeros = (sizes: Sizes): TestArray => ({
  data: new Float32Array(count(sizes)),
  shape: [count(sizes)],
  dtype: "f32",
});

const normals = (draw: Draw, sizes: Sizes): TestArray => draw.normals([count(sizes)]);

/** What all steps take. The learning rate is so small that a parameter stays what it is, however often it is called. */
const step = ({ parameter, gradient }: CallTensors) => ({
  parameter: parameter.handle,
  gradient: gradient.handle,
  learningRate: 1e-9,
  weightDecay: 0,
  maxNorm: 1,
});

/** Steps of optimisers over one expert's matrix [I, H], in float32. */
export const optimizersCases: readonly OperatorCase[] = [
  {
    operator: "sumOfSquares",
    name: "sumOfSquares",
    inputs: (draw, sizes) => ({
      values: normals(draw, sizes),
      total: { data: new Float32Array(1), shape: [1], dtype: "f32" },
    }),
    outputs: () => ({}),
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
    }),
    outputs: () => ({}),
    call:
      () =>
      (tensors, _, { backend }) =>
        backend.adamW({
          ...step(tensors),
          mean: tensors.mean.handle,
          square: tensors.square.handle,
          beta1: 0.9,
          beta2: 0.999,
          epsilon: 1e-8,
          step: 1,
        }),
  },
  {
    operator: "sgd",
    name: "sgd",
    inputs: (draw, sizes) => ({
      parameter: normals(draw, sizes),
      gradient: normals(draw, sizes),
      velocity: zeros(sizes),
    }),
    outputs: () => ({}),
    call:
      () =>
      (tensors, _, { backend }) =>
        backend.sgd({ ...step(tensors), velocity: tensors.velocity.handle, momentum: 0.9, nesterov: false }),
  },
];
