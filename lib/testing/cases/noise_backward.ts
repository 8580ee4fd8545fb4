import { expertLoadBackward } from "../../operators/noise/expert_load_backward.js";
import { noisyLogitsBackward } from "../../operators/noise/noisy_logits_backward.js";
import type { Case } from "../case.js";
import { expertLoadCase, type LoadProblem, loadInputs, loadProblems } from "./noise.js";

export function noisyLogitsBackwardCase(tokens: number, experts: number, seed?: number): Case {
  return {
    name: `T${tokens} E${experts}, noise ${seed === undefined ? "given" : "drawn"}`,
    operator: "noisyLogitsBackward",
    tolerances: { dSpread: 2e-6 },
    // A drawn number near zero is a small difference.
    magnitudes: { dSpread: 1 },
    run(inputs) {
      const shape = [tokens, experts];
      const [spread, dLogits] = [inputs.f32Normals(shape, 20), inputs.f32Normals(shape)];
      const options =
        seed === undefined ? { noise: inputs.f32Normals(shape), dDeviation: inputs.f32Normals(shape) } : { seed };
      return { dSpread: noisyLogitsBackward(spread, dLogits, options) };
    },
  };
}

export function expertLoadBackwardCase(problem: LoadProblem): Case {
  return {
    name: expertLoadCase(problem).name,
    operator: "expertLoadBackward",
    tolerances: { dClean: 1e-5, dNoisy: 1e-5, dDeviation: 1e-5, dGroupLoad: 1e-5 },
    magnitudes: { dClean: 1, dNoisy: 1, dDeviation: 1, dGroupLoad: 1 },
    run(inputs) {
      const { clean, noisy, deviation, options } = loadInputs(inputs, problem);
      return { ...expertLoadBackward(clean, noisy, deviation, inputs.f32Normals([problem.experts]), options) };
    },
  };
}

export const noiseBackwardCases: readonly Case[] = [
  noisyLogitsBackwardCase(0, 8),
  noisyLogitsBackwardCase(1, 1),
  noisyLogitsBackwardCase(33, 60),
  noisyLogitsBackwardCase(7, 1100),
  noisyLogitsBackwardCase(33, 60, 3),
  ...loadProblems.map(expertLoadBackwardCase),
];
