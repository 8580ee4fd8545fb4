import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { AdamW } from "../../optimizers/adamw.js";
import { squaredNorm } from "../../optimizers/gradient_norm.js";
import type { Optimizer } from "../../optimizers/optimizer.js";
import type { Parameter } from "../../optimizers/parameter.js";
import { SGD } from "../../optimizers/sgd.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";

/** What optimisers' cases have in common: several steps over parameters of `sizes` elements. */
export interface OptimizerProblem {
  readonly sizes: readonly number[];
  readonly steps: number;
  readonly copy?: FloatDType | undefined;
  readonly maxNorm?: number | undefined;
  readonly weightDecay?: number | undefined;
}

export function squaresCase(sizes: readonly number[]): Case {
  return {
    name: `N${sizes.join(" ")}`,
    operator: "sumOfSquares",
    devicesOnly: true,
    tolerances: { total: 1e-6 },
    run(inputs) {
      return { total: inputs.keep(squaredNorm(sizes.map((size) => inputs.f32Normals([size])))) };
    },
  };
}

export function adamWCase(problem: OptimizerProblem): Case {
  return {
    name: nameOf(problem),
    operator: "adamW",
    devicesOnly: true,
    tolerances: tolerances(problem),
    magnitudes: magnitudes(problem),
    run: (inputs) => steps(inputs, problem, (parameters, options) => new AdamW(parameters, options)),
  };
}

export function sgdCase(problem: OptimizerProblem & { readonly momentum: number; readonly nesterov: boolean }): Case {
  const { momentum, nesterov } = problem;
  return {
    name: `${nameOf(problem)} momentum ${momentum}${nesterov ? " nesterov" : ""}`,
    operator: "sgd",
    devicesOnly: true,
    tolerances: tolerances(problem),
    magnitudes: magnitudes(problem),
    run: (inputs) =>
      steps(inputs, problem, (parameters, options) => new SGD(parameters, { ...options, momentum, nesterov })),
  };
}

function nameOf({ sizes, steps, copy, maxNorm, weightDecay }: OptimizerProblem): string {
  const options = [
    copy && `copy ${copy}`,
    maxNorm !== undefined && `norm up to ${maxNorm}`,
    weightDecay !== undefined && `decay ${weightDecay}`,
  ];
  return [`N${sizes.join(" ")} ${steps} steps`, ...options.filter(Boolean)].join(" ");
}

/** Copies are rounded parameters: where these are near the middle between two values, a device may choose the other. */
function tolerances({ sizes, copy = "f32" }: OptimizerProblem): Record<string, number> {
  const ofCopy = { f32: 1e-5, f16: 2 ** -10, bf16: 2 ** -7, f64: 1e-5 }[copy];
  return Object.fromEntries(
    sizes.flatMap((_, index) => [
      ...["value", "mean", "square", "velocity"].map((name) => [`${index}.${name}`, 1e-5]),
      [`${index}.copy`, ofCopy],
    ]),
  );
}

/** A step may end near zero. */
function magnitudes({ sizes }: OptimizerProblem): Record<string, number> {
  return Object.fromEntries(sizes.flatMap((_, index) => [`${index}.value`, `${index}.copy`].map((name) => [name, 1])));
}

type Options = { learningRate: number; maxNorm?: number; weightDecay?: number };

function steps(
  inputs: Inputs,
  { sizes, steps, copy, maxNorm, weightDecay }: OptimizerProblem,
  create: (parameters: Parameter[], options: Options) => Optimizer,
): Record<string, Tensor> {
  const gradients = sizes.map((size) => inputs.f32Normals([size]));
  const parameters = sizes.map((size, index) => ({
    name: String(index),
    value: inputs.f32Normals([size]),
    gradient: gradients[index] as Tensor<"f32">,
    ...(copy && { copy: inputs.empty([size], copy) }),
  }));
  const optimizer = inputs.keep(
    create(parameters, {
      learningRate: 0.1,
      ...(maxNorm !== undefined && { maxNorm }),
      ...(weightDecay !== undefined && { weightDecay }),
    }),
  );
  for (let step = 0; step < steps; step++) optimizer.step()?.dispose();
  const copies = parameters.flatMap(({ name, copy: kept }) => (kept ? [[`${name}.copy`, kept] as const] : []));
  const values = parameters.map(({ name, value }) => [`${name}.value`, value] as const);
  return { ...Object.fromEntries([...values, ...copies]), ...optimizer.state().tensors };
}

export const optimizerCases: readonly Case[] = [
  squaresCase([1]),
  squaresCase([4095, 4096, 4097]),
  squaresCase([0, 100_000]),
  adamWCase({ sizes: [1], steps: 1 }),
  adamWCase({ sizes: [1000, 1, 17_000], steps: 3, copy: "bf16", weightDecay: 0.1 }),
  adamWCase({ sizes: [33, 0, 7], steps: 4, copy: "f16", maxNorm: 0.5 }),
  adamWCase({ sizes: [129], steps: 2, maxNorm: 1e9, copy: "f32" }),
  sgdCase({ sizes: [1, 16_385], steps: 2, momentum: 0, nesterov: false, copy: "bf16" }),
  sgdCase({ sizes: [2000, 3], steps: 4, momentum: 0.9, nesterov: false, weightDecay: 0.01 }),
  sgdCase({ sizes: [77, 0], steps: 3, momentum: 0.5, nesterov: true, maxNorm: 1, copy: "f16" }),
];
