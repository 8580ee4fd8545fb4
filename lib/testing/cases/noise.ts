import type { Distribution } from "../../core/operators/noise.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { type ExpertLoadOptions, expertLoad } from "../../operators/noise/expert_load.js";
import { jitter } from "../../operators/noise/jitter.js";
import { noisyLogits } from "../../operators/noise/noisy_logits.js";
import { random, type Seed } from "../../operators/noise/random.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import type { Random } from "../inputs/random.js";
import { unitRoundoff } from "../rounding.js";

export function randomCase(shape: Shape, distribution: Distribution, seed: Seed, offset = 0): Case {
  return {
    name: `${distribution} [${shape}] of seed ${seed}${offset ? ` from ${offset}` : ""}`,
    operator: "random",
    // A normal value is a cosine, off by up to 2e-7, times a radius of at most 5.8.
    tolerances: distribution === "uniform" ? {} : { values: 1.2e-6 },
    magnitudes: { values: 1 },
    run: ({ device }) => ({ values: random(device, shape, { seed, distribution, offset }) }),
  };
}

export function jitterCase(tokens: number, hidden: number, dtype: FloatDType, epsilon = 0.01): Case {
  return {
    name: `T${tokens} H${hidden} ${dtype} by ${epsilon}`,
    operator: "jitter",
    tolerances: { y: 1e-6 + unitRoundoff[dtype] },
    run: (inputs) => ({ y: jitter(inputs.normals([tokens, hidden], dtype), { epsilon, seed: 7 }) }),
  };
}

export function noisyLogitsCase(tokens: number, experts: number, seed?: number): Case {
  return {
    name: `T${tokens} E${experts}, noise ${seed === undefined ? "given" : "drawn"}`,
    operator: "noisyLogits",
    tolerances: { logits: 1e-6, deviation: 1e-6 },
    // Logits may cancel out what they are sums of.
    magnitudes: { logits: 1 },
    run(inputs) {
      const matrix = (deviation: number) => inputs.normals([tokens, experts], "f32", deviation) as Tensor<"f32">;
      const [clean, spread] = [matrix(1), matrix(20)];
      return { ...noisyLogits(clean, spread, seed === undefined ? { noise: matrix(1) } : { seed, epsilon: 1 }) };
    },
  };
}

export interface LoadProblem {
  tokens: number;
  experts: number;
  topK: number;
  /** The number of groups, G, and how many a token chooses. */
  groups?: readonly [count: number, chosen: number];
  kind?: keyof typeof logitKinds;
  masked?: boolean;
}

/** How noisy logits are drawn. */
const logitKinds = {
  normal: (random: Random) => random.normals(1)[0] as number,
  tied: (random: Random) => random.integer(0, 3),
  non_finite: (random: Random) =>
    [Number.NaN, -Infinity, -Infinity, Infinity, 0, 1, 2, 3][random.integer(0, 7)] as number,
} as const;

export function expertLoadCase(problem: LoadProblem): Case {
  const { tokens, experts, topK, groups, kind = "normal", masked } = problem;
  const text = `${groups ? `, ${groups[1]} of ${groups[0]} groups` : ""}${masked ? ", masked" : ""}`;
  return {
    name: `T${tokens} E${experts} k${topK} of ${kind}${text}`,
    operator: "expertLoad",
    tolerances: { load: 1e-5 },
    run(inputs) {
      const { clean, noisy, deviation, options } = loadInputs(inputs, problem);
      return { load: expertLoad(clean, noisy, deviation, options) };
    },
  };
}

/** What expertLoad takes. */
export function loadInputs(
  inputs: Inputs,
  { tokens, experts, topK, groups, kind = "normal", masked }: LoadProblem,
): { clean: Tensor<"f32">; noisy: Tensor<"f32">; deviation: Tensor<"f32">; options: Omit<ExpertLoadOptions, "out"> } {
  const matrix = (value: () => number) =>
    inputs.floats(Float32Array.from({ length: tokens * experts }, value), [tokens, experts], "f32") as Tensor<"f32">;
  const noisy = matrix(() => logitKinds[kind](inputs.random));
  const clean = kind === "non_finite" ? noisy : matrix(() => logitKinds.normal(inputs.random));
  const deviation = matrix(() => 0.01 + inputs.random.uniform());
  const options = { topK, ...(masked && { tokenMask: inputs.tokenMask(tokens) }) };
  if (groups === undefined) return { clean, noisy, deviation, options };
  const [count, chosen] = groups;
  const choices = Array.from({ length: tokens }, () => inputs.random.sample(chosen, count + 1).map((id) => id - 1));
  const ids = inputs.integers(choices.flat(), [tokens, chosen]);
  const load = inputs.normals([count], "f32") as Tensor<"f32">;
  return { clean, noisy, deviation, options: { ...options, groups: { ids, load } } };
}

export const randomCases: readonly Case[] = (["uniform", "normal"] as const).flatMap((distribution) => [
  randomCase([], distribution, 0),
  randomCase([0, 8], distribution, 1),
  randomCase([1], distribution, 2 ** 53 - 1, 3),
  randomCase([5], distribution, 11, 2),
  randomCase([33, 60], distribution, 2n ** 64n - 1n),
  randomCase([7, 3, 51], distribution, 42, 2 ** 34 + 1),
]);

export const jitterCases: readonly Case[] = [
  ...(["f32", "f16", "bf16"] as const).flatMap((dtype) => [
    jitterCase(0, 16, dtype),
    jitterCase(1, 1, dtype),
    jitterCase(13, 51, dtype),
    jitterCase(3, 2880, dtype, 0.5),
  ]),
  jitterCase(5, 8, "f32", 0),
];

export const noisyLogitsCases: readonly Case[] = [
  noisyLogitsCase(0, 8),
  noisyLogitsCase(1, 1),
  noisyLogitsCase(33, 60),
  noisyLogitsCase(7, 1100),
  noisyLogitsCase(0, 8, 3),
  noisyLogitsCase(33, 60, 3),
];

export const loadProblems: readonly LoadProblem[] = [
  { tokens: 0, experts: 8, topK: 2 },
  { tokens: 1, experts: 1, topK: 1 },
  { tokens: 1, experts: 8, topK: 2 },
  { tokens: 64, experts: 8, topK: 8 },
  { tokens: 300, experts: 60, topK: 4 },
  { tokens: 5, experts: 1100, topK: 22 },
  { tokens: 65, experts: 40, topK: 8, kind: "tied" },
  { tokens: 33, experts: 9, topK: 9, kind: "tied" },
  { tokens: 130, experts: 12, topK: 3, kind: "non_finite" },
  { tokens: 33, experts: 5, topK: 5, kind: "non_finite" },
  { tokens: 0, experts: 8, topK: 2, groups: [4, 2] },
  { tokens: 130, experts: 32, topK: 2, groups: [8, 3] },
  { tokens: 33, experts: 21, topK: 7, groups: [3, 1] },
  { tokens: 3, experts: 40, topK: 1, groups: [40, 33] },
  { tokens: 65, experts: 24, topK: 2, groups: [4, 2], kind: "non_finite" },
  { tokens: 130, experts: 12, topK: 3, kind: "non_finite", masked: true },
  { tokens: 130, experts: 32, topK: 2, groups: [8, 3], masked: true },
];

export const expertLoadCases: readonly Case[] = loadProblems.map(expertLoadCase);
