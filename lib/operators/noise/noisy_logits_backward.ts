import { type Fields, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkTensor } from "../check.js";
import { Outputs } from "../outputs.js";
import { checkNoise, type NoiseSource, noiseFields, noiseFor } from "./noisy_logits.js";

/** Options of {@link noisyLogitsBackward}. */
export interface NoisyLogitsBackwardOptions extends NoiseSource {
  /** [T, E] f32, the gradient of the deviation, where a loss depends on it ({@link expertLoadBackward}); default 0. */
  dDeviation?: Tensor<"f32"> | undefined;
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  {
    ...noiseFields,
    dDeviation: optional(tensor<"f32">()),
    out: optional(tensor<"f32">()),
  } satisfies Fields<NoisyLogitsBackwardOptions>,
  "{ seed: 1 }",
);

/**
 * The gradient of {@link noisyLogits} by `spread`, the raw deviation of the noise: dSpread = (dLogits · noise +
 * dDeviation) · sigmoid(spread). The gradient by `clean` is dLogits itself.
 *
 * @param spread [T, E] f32.
 * @param dLogits [T, E] f32, the gradient of the noisy logits.
 * @param options the `noise`, or the `seed` and `offset`, that noisyLogits took.
 * @returns dSpread [T, E] f32.
 * @throws INVALID_ARGUMENT (both or neither of noise and seed, offset, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function noisyLogitsBackward(
  spread: Tensor<"f32">,
  dLogits: Tensor<"f32">,
  options: NoisyLogitsBackwardOptions,
): Tensor<"f32"> {
  checkTensor("spread", spread, "float32", ["T", "E"]);
  const { device, shape, dtype } = spread;
  checkTensor("dLogits", dLogits, [dtype], shape, device);
  const given = backwardOptions(options, "options");
  const { dDeviation } = given;
  checkOptional("dDeviation", dDeviation, [dtype], shape, device);
  checkNoise(spread, given);
  using outputs = new Outputs(device, [spread, dLogits, dDeviation, given.noise]);
  const dSpread = outputs.next("out", given.out, shape, dtype);
  using noise = noiseFor(spread, given);
  device.backend.noisyLogitsBackward({
    spread: spread.handle,
    noise: noise.tensor.handle,
    dLogits: dLogits.handle,
    dDeviation: dDeviation?.handle,
    dSpread: dSpread.handle,
  });
  return outputs.returned(dSpread);
}
