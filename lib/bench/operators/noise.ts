import { expertLoad } from "../../operators/noise/expert_load.js";
import { expertLoadBackward } from "../../operators/noise/expert_load_backward.js";
import { jitter } from "../../operators/noise/jitter.js";
import { noisyLogits } from "../../operators/noise/noisy_logits.js";
import { noisyLogitsBackward } from "../../operators/noise/noisy_logits_backward.js";
import { random } from "../../operators/noise/random.js";
import type { Draw } from "./draw.js";
import { f32, type OperatorCase, type Sizes } from "./operator_case.js";

/** What expertLoad takes. Without noise above all others there would be experts that no token can choose. */
function noisy(draw: Draw, { tokens, numExperts, topK }: Sizes) {
  const matrix = () => draw.logits(tokens, numExperts);
  return {
    clean: matrix(),
    noisy: matrix(),
    deviation: draw.positive([tokens, numExperts]),
    topK: Math.min(topK, numExperts),
  };
}

/** Random numbers and noisy gating. */
export const noiseCases: readonly OperatorCase[] = [
  {
    operator: "random",
    name: "random",
    inputs: () => ({}),
    outputs: ({ tokens, hiddenSize }) => ({ values: f32(tokens, hiddenSize) }),
    call:
      ({ tokens, hiddenSize }) =>
      (_, { values }, device) =>
        void random(device, [tokens, hiddenSize], { seed: 1, distribution: "normal", out: values }),
  },
  {
    operator: "jitter",
    name: "jitter",
    inputs: (draw, { tokens, hiddenSize, dtype }) => ({ x: draw.normals([tokens, hiddenSize], dtype) }),
    outputs: ({ tokens, hiddenSize, dtype }) => ({ y: { shape: [tokens, hiddenSize], dtype } }),
    call:
      () =>
      ({ x }, { y }) =>
        void jitter(x, { epsilon: 0.01, seed: 1, out: y }),
  },
  {
    operator: "noisyLogits",
    name: "noisyLogits",
    inputs: (draw, { tokens, numExperts }) => {
      const matrix = () => draw.logits(tokens, numExperts);
      return { clean: matrix(), spread: matrix(), noise: matrix(), epsilon: 0.01 };
    },
    outputs: ({ tokens, numExperts }) => ({ logits: f32(tokens, numExperts), deviation: f32(tokens, numExperts) }),
    call:
      () =>
      ({ clean, spread, noise }, { logits, deviation }) =>
        void noisyLogits(clean, spread, { noise, epsilon: 0.01, out: { logits, deviation } }),
  },
  {
    operator: "noisyLogitsBackward",
    name: "noisyLogitsBackward",
    inputs: (draw, { tokens, numExperts }) => {
      const matrix = () => draw.logits(tokens, numExperts);
      return { spread: matrix(), noise: matrix(), dLogits: matrix(), dDeviation: matrix() };
    },
    outputs: ({ tokens, numExperts }) => ({ dSpread: f32(tokens, numExperts) }),
    call:
      () =>
      ({ spread, noise, dLogits, dDeviation }, { dSpread }) =>
        void noisyLogitsBackward(spread, dLogits, { noise, dDeviation, out: dSpread }),
  },
  {
    operator: "expertLoad",
    name: "expertLoad",
    inputs: noisy,
    outputs: ({ numExperts }) => ({ load: f32(numExperts) }),
    call:
      ({ topK }) =>
      ({ clean, noisy: logits, deviation }, { load }) =>
        void expertLoad(clean, logits, deviation, { topK, out: load }),
  },
  {
    operator: "expertLoadBackward",
    name: "expertLoadBackward",
    inputs: (draw, sizes) => ({ ...noisy(draw, sizes), dLoad: draw.normals([sizes.numExperts]) }),
    outputs: ({ tokens, numExperts }) => {
      const matrix = f32(tokens, numExperts);
      return { dClean: matrix, dNoisy: matrix, dDeviation: matrix };
    },
    call:
      ({ topK }) =>
      ({ clean, noisy: logits, deviation, dLoad }, { dClean, dNoisy, dDeviation }) =>
        void expertLoadBackward(clean, logits, deviation, dLoad, { topK, out: { dClean, dNoisy, dDeviation } }),
  },
];
