import type { Implementation } from "../core/implementation.js";
import type { ReferenceTensor } from "../core/tensor.js";

/** What multiplies gradients so that the norm of all of them is at most `maxNorm`. */
function clipFactor(squaredNorm: ReferenceTensor | null | undefined, maxNorm: number): number {
  if (!squaredNorm) return 1;
  return Math.min(1, maxNorm / (Math.sqrt(squaredNorm.values()[0] as number) + 1e-6));
}

export const runSumOfSquares: Implementation<"sumOfSquares"> = ({ values, total }) => {
  const squares = values.values().reduce((sum, value) => sum + value * value, 0);
  total.store(Float64Array.of((total.values()[0] as number) + squares));
};

/** AdamW (arXiv 1711.05101), as PyTorch has it. */
export const runAdamW: Implementation<"adamW"> = (p) => {
  const factor = clipFactor(p.squaredNorm, p.maxNorm);
  const [parameter, mean, square] = [p.parameter.values(), p.mean.values(), p.square.values()];
  const rate = p.learningRate / (1 - p.beta1 ** p.step);
  const correction = Math.sqrt(1 - p.beta2 ** p.step);
  p.gradient.values().forEach((value, i) => {
    const gradient = factor * value;
    mean[i] = p.beta1 * (mean[i] as number) + (1 - p.beta1) * gradient;
    square[i] = p.beta2 * (square[i] as number) + (1 - p.beta2) * gradient * gradient;
    const step = (rate * (mean[i] as number)) / (Math.sqrt(square[i] as number) / correction + p.epsilon);
    parameter[i] = (parameter[i] as number) * (1 - p.learningRate * p.weightDecay) - step;
  });
  p.mean.store(mean);
  p.square.store(square);
  p.parameter.store(parameter);
  p.copy?.store(p.parameter.values());
};

/** Stochastic gradient descent with momentum (Sutskever et al., 2013), as PyTorch has it. */
export const runSgd: Implementation<"sgd"> = (p) => {
  const factor = clipFactor(p.squaredNorm, p.maxNorm);
  const [parameter, velocity] = [p.parameter.values(), p.velocity.values()];
  p.gradient.values().forEach((value, i) => {
    let gradient = factor * value + p.weightDecay * (parameter[i] as number);
    if (velocity.length > 0) {
      velocity[i] = p.momentum * (velocity[i] as number) + gradient;
      gradient = p.nesterov ? gradient + p.momentum * velocity[i] : velocity[i];
    }
    parameter[i] = (parameter[i] as number) - p.learningRate * gradient;
  });
  p.velocity.store(velocity);
  p.parameter.store(parameter);
  p.copy?.store(p.parameter.values());
};
