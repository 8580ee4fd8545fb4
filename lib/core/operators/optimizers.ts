import { boolean, input, integer, number, operator, optionalInput, optionalOutput, updated } from "./field.js";

/** What steps of all optimisers take: copy [N] is the parameter in another dtype. */
const step = {
  parameter: updated,
  gradient: input,
  squaredNorm: optionalInput,
  copy: optionalOutput,
  learningRate: number,
  weightDecay: number,
  maxNorm: number,
};

/**
 * Steps of optimisers over flat tensors [N] f32. With squaredNorm [1], gradients are multiplied by min(1, maxNorm /
 * (√squaredNorm + 1e-6)) first.
 */
export const optimizers = {
  /** total [1] += the sum of the squares of values [N]. */
  sumOfSquares: operator({ values: input, total: updated }),
  /** mean and square are the moving averages of the gradient and its square; step counts from 1. */
  adamW: operator({
    ...step,
    mean: updated,
    square: updated,
    beta1: number,
    beta2: number,
    epsilon: number,
    step: integer,
  }),
  /** velocity has no elements without momentum. */
  sgd: operator({ ...step, velocity: updated, momentum: number, nesterov: boolean }),
};
