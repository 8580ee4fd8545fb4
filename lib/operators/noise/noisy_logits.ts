import { cannotCombine, unexpected } from "../../core/errors.js";
import { type Fields, nonNegative, object, optional, results, unchecked } from "../../core/input/options.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor } from "../check.js";
import { Outputs } from "../outputs.js";
import { random, type Seed, seed } from "./random.js";

/** Noisy router logits and the deviation of their noise. */
export interface NoisyLogits {
  /** [T, E] f32 */
  readonly logits: Tensor<"f32">;
  /** [T, E] f32, the standard deviation of each logit's noise. */
  readonly deviation: Tensor<"f32">;
}

/** Noise, or what it is drawn from: exactly one of `noise` and `seed`. */
export interface NoiseSource {
  /** [T, E] f32, of mean 0 and deviation 1; alternative to `seed`. */
  noise?: Tensor<"f32"> | undefined;
  /** Draws the noise `random(device, [T, E], { seed, distribution: "normal" })`. */
  seed?: Seed | undefined;
  /** Position in the seed's sequence where the noise begins, see {@link random}; default 0. */
  offset?: number | undefined;
}

/** Options of {@link noisyLogits}. */
export interface NoisyLogitsOptions extends NoiseSource {
  /** Lower limit of the deviation; default 0.01. */
  epsilon?: number | undefined;
  /** Where to write; default new tensors. */
  out?: NoisyLogits | undefined;
}

export const noiseEpsilon = optional(nonNegative, 0.01);

export const noiseFields = {
  noise: optional(tensor<"f32">()),
  seed: optional(seed),
  offset: optional(unchecked),
} satisfies Fields<NoiseSource>;

const noisyLogitsOptions = object(
  {
    ...noiseFields,
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
  const given = noisyLogitsOptions(options, "options");
  const { epsilon, out } = given;
  checkNoise(clean, given);
  using outputs = new Outputs(device, [clean, spread, given.noise]);
  const logits = outputs.next("out.logits", out?.logits, shape, dtype);
  const deviation = outputs.next("out.deviation", out?.deviation, shape, dtype);
  using noise = noiseFor(clean, given);
  device.backend.noisyLogits({
    clean: clean.handle,
    spread: spread.handle,
    noise: noise.tensor.handle,
    epsilon,
    logits: logits.handle,
    deviation: deviation.handle,
  });
  return outputs.returned({ logits, deviation });
}

/** A {@link NoiseSource} after reading. */
interface GivenNoise {
  readonly noise: Tensor<"f32"> | undefined;
  readonly seed: bigint | undefined;
  readonly offset: unknown;
}

/** Checks where the noise for logits comes from. */
export function checkNoise({ device, shape, dtype }: Tensor<"f32">, { noise, seed, offset }: GivenNoise): void {
  if ((noise === undefined) === (seed === undefined)) {
    throw unexpected("options", "exactly one of noise and seed", noise === undefined ? "neither" : "both");
  }
  if (noise !== undefined && offset !== undefined) throw cannotCombine("offset", "noise");
  if (noise !== undefined) checkTensor("noise", noise, [dtype], shape, device);
}

/** The noise for logits: given, or drawn and then disposed of. */
export function noiseFor(
  logits: Tensor<"f32">,
  { noise, seed, offset }: GivenNoise,
): { tensor: Tensor<"f32"> } & Disposable {
  const tensor = noise ?? draw(logits, seed as Seed, offset as number | undefined);
  return {
    tensor,
    [Symbol.dispose]() {
      if (noise === undefined) tensor.dispose();
    },
  };
}

function draw({ device, shape, dtype }: Tensor<"f32">, seed: Seed, offset = 0): Tensor<"f32"> {
  using made = new Made();
  const out = made.own(device.empty(shape, dtype));
  return made.returned(random(device, shape, { seed, offset, distribution: "normal", out }));
}
