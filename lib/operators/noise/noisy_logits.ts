import { cannotCombine, invalidArgument } from "../../core/errors.js";
import { type Fields, nonNegative, object, optional, results, unchecked } from "../../core/options.js";
import type { Tensor } from "../../core/tensor.js";
import { tensor } from "../../core/tensor_option.js";
import { checkTensor, output } from "../check.js";
import { random, type Seed, seed } from "./random.js";

/** Noisy router logits and the deviation of their noise. */
export interface NoisyLogits {
  /** [T, E] f32 */
  readonly logits: Tensor<"f32">;
  /** [T, E] f32, the standard deviation of each logit's noise. */
  readonly deviation: Tensor<"f32">;
}

export interface NoisyLogitsOptions {
  /** [T, E] f32, of mean 0 and deviation 1; alternative to `seed`. */
  noise?: Tensor<"f32">;
  /** Draws the noise `random(device, [T, E], { seed, distribution: "normal" })`. */
  seed?: Seed;
  /** Position in the seed's sequence where the noise begins, see {@link random}; default 0. */
  offset?: number;
  /** Lower limit of the deviation; default 0.01. */
  epsilon?: number;
  /** Where to write; default new tensors. */
  out?: NoisyLogits;
}

export const noiseEpsilon = optional(nonNegative, 0.01);

const noisyLogitsOptions = object(
  {
    noise: optional(tensor<"f32">()),
    seed: optional(seed),
    offset: optional(unchecked),
    epsilon: noiseEpsilon,
    out: optional(results({ logits: tensor<"f32">(), deviation: tensor<"f32">() })),
  } satisfies Fields<NoisyLogitsOptions>,
  "{ seed: 1 }",
);

/**
 * Logits for noisy top-k gating (Shazeer et al., arXiv 1701.06538, equation 4): deviation = softplus(spread) + ε,
 * logits = clean + noise · deviation. The paper's gates are `gating(logits, { scoring: "softmax_selected" })` of these.
 *
 * @param clean [T, E] f32: x · Wg.
 * @param spread [T, E] f32: x · Wnoise.
 * @param options exactly one of `noise` and `seed`.
 * @throws INVALID_ARGUMENT (both or neither of noise and seed, offset, epsilon, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function noisyLogits(clean: Tensor<"f32">, spread: Tensor<"f32">, options: NoisyLogitsOptions): NoisyLogits {
  checkTensor("clean", clean, "float32", ["T", "E"]);
  const { device, shape, dtype } = clean;
  checkTensor("spread", spread, [dtype], shape, device);
  const { noise, seed, offset, epsilon, out } = noisyLogitsOptions(options, "options");
  if ((noise === undefined) === (seed === undefined)) {
    throw invalidArgument("options", "exactly one of noise and seed", noise === undefined ? "neither" : "both");
  }
  if (noise !== undefined && offset !== undefined) throw cannotCombine("offset", "noise");
  if (noise !== undefined) checkTensor("noise", noise, [dtype], shape, device);
  const inputs = [clean, spread, noise];
  const logits = output("out.logits", out?.logits, device, shape, dtype, inputs);
  const deviation = output("out.deviation", out?.deviation, device, shape, dtype, [...inputs, logits]);
  const given = noise ?? draw(clean, seed as Seed, offset as number | undefined);
  device.backend.noisyLogits({
    clean: clean.handle,
    spread: spread.handle,
    noise: given.handle,
    epsilon,
    logits: logits.handle,
    deviation: deviation.handle,
  });
  if (noise === undefined) given.dispose();
  return { logits, deviation };
}

function draw({ device, shape, dtype }: Tensor<"f32">, seed: Seed, offset = 0): Tensor<"f32"> {
  const out = device.empty(shape, dtype);
  try {
    return random(device, shape, { seed, offset, distribution: "normal", out });
  } catch (error) {
    out.dispose();
    throw error;
  }
}
