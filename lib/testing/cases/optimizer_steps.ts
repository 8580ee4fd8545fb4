import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";

// One step of an optimiser as the operator that it is, from the middle of a run. `optimizers.ts` runs whole optimisers.

interface StepProblem {
  readonly size: number;
  readonly copy?: FloatDType;
  readonly weightDecay?: number;
  /** The limit of the gradients' norm, which is 3; default none. */
  readonly maxNorm?: number;
}

/** A parameter with its gradient, and what all optimisers take. */
function drawn(inputs: Inputs, { size, copy, weightDecay = 0, maxNorm }: StepProblem) {
  const tensors = {
    parameter: inputs.f32Normals([size]),
    ...(copy && { copy: inputs.empty([size], copy) }),
  };
  const gradient = inputs.f32Normals([size]);
  const squaredNorm = inputs.floats(Float32Array.of(9), [1], "f32");
  const operands = {
    gradient: gradient.handle,
    ...(maxNorm !== undefined && { squaredNorm: squaredNorm.handle }),
    learningRate: 0.1,
    weightDecay,
    maxNorm: maxNorm ?? 0,
  };
  return { tensors, operands };
}

type Handles<T> = { [Name in keyof T]: TensorHandle };
const handlesOf = <T extends Readonly<Record<string, Tensor>>>(tensors: T) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.handle])) as Handles<T>;

function common({ size, copy = "f32", weightDecay, maxNorm }: StepProblem) {
  const details = [
    copy !== "f32" && `copy ${copy}`,
    weightDecay !== undefined && `decay ${weightDecay}`,
    maxNorm !== undefined && `norm up to ${maxNorm}`,
  ];
  const ofCopy = { f32: 1e-5, f16: 2 ** -10, bf16: 2 ** -7, f64: 1e-5 }[copy];
  return {
    details: [`N${size}`, ...details.filter(Boolean)].join(" "),
    tolerances: { parameter: 1e-5, mean: 1e-5, square: 1e-5, velocity: 1e-5, copy: ofCopy },
    // A step may end near zero.
    magnitudes: { parameter: 1, copy: 1 },
  };
}

/** @param step counts from 1; the correction of the averages depends on it. */
function adamWStep(problem: StepProblem & { readonly step: number; readonly epsilon?: number }): Case {
  const { epsilon = 1e-8 } = problem;
  const { details, ...judged } = common(problem);
  return {
    name: `one step: ${details} step ${problem.step}${epsilon === 1e-8 ? "" : ` epsilon ${epsilon}`}`,
    operator: "adamW",
    ...judged,
    run(inputs) {
      const { tensors, operands } = drawn(inputs, problem);
      const squares = inputs.random.normals(problem.size).map((value) => value * value);
      const kept = {
        ...tensors,
        mean: inputs.f32Normals([problem.size], 0.3),
        square: inputs.floats(squares, [problem.size], "f32"),
      };
      const rates = { beta1: 0.9, beta2: 0.99, epsilon, step: problem.step };
      inputs.device.backend.adamW({ ...operands, ...handlesOf(kept), ...rates });
      return kept;
    },
  };
}

function sgdStep(problem: StepProblem & { readonly momentum: number; readonly nesterov?: boolean }): Case {
  const { details, ...judged } = common(problem);
  const { momentum, nesterov = false } = problem;
  return {
    name: `one step: ${details} momentum ${momentum}${nesterov ? " nesterov" : ""}`,
    operator: "sgd",
    ...judged,
    run(inputs) {
      const { tensors, operands } = drawn(inputs, problem);
      const kept = { ...tensors, velocity: inputs.f32Normals([momentum === 0 ? 0 : problem.size]) };
      inputs.device.backend.sgd({ ...operands, ...handlesOf(kept), momentum, nesterov });
      return kept;
    },
  };
}

function squaresAdded(size: number): Case {
  return {
    name: `N${size} added to a total`,
    operator: "sumOfSquares",
    tolerances: { total: 1e-6 },
    run(inputs) {
      const values = inputs.f32Normals([size]);
      const total = inputs.floats(Float32Array.of(2.5), [1], "f32");
      inputs.device.backend.sumOfSquares({ values: values.handle, total: total.handle });
      return { total };
    },
  };
}

export const optimizerStepCases: readonly Case[] = [
  ...[0, 1, 4097].map(squaresAdded),
  adamWStep({ size: 0, step: 1 }),
  adamWStep({ size: 1, step: 1 }),
  adamWStep({ size: 1000, step: 3, copy: "bf16", weightDecay: 0.1 }),
  adamWStep({ size: 65, step: 2, epsilon: 0.1 }),
  adamWStep({ size: 129, step: 1, maxNorm: 0.5, copy: "f16" }),
  adamWStep({ size: 77, step: 4, maxNorm: 5, weightDecay: 0.01 }),
  sgdStep({ size: 33, momentum: 0 }),
  sgdStep({ size: 2000, momentum: 0.9, weightDecay: 0.1, copy: "bf16" }),
  sgdStep({ size: 129, momentum: 0.5, nesterov: true, maxNorm: 0.5, copy: "f16" }),
];
