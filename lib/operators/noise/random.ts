import { type Device, openedDevice } from "../../core/device/device.js";
import { checkInteger, invalidArgument } from "../../core/errors.js";
import { choice, type Fields, object, optional, type Reader, unchecked } from "../../core/input/options.js";
import { type Distribution, distributions } from "../../core/operators/noise.js";
import { readShape, type Shape, shapeSize } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { output, resultDType } from "../check.js";

/** Identifies a sequence of random numbers: an integer 0 .. 2^53 - 1, or a bigint 0 .. 2^64 - 1. */
export type Seed = number | bigint;

/** A seed as 64 bits. */
export const seed: Reader<bigint> = (value, name) => {
  const fits =
    typeof value === "bigint"
      ? value >= 0n && value < 1n << 64n
      : Number.isSafeInteger(value) && (value as number) >= 0;
  if (!fits) throw invalidArgument(name, "an integer from 0 to 2^53 - 1 or a bigint from 0 to 2^64 - 1", value);
  return BigInt(value as Seed);
};

/** Options of {@link random}. */
export interface RandomOptions {
  /** The same seed gives the same numbers, on every device. */
  seed: Seed;
  /** The distribution of the numbers. */
  distribution: Distribution;
  /** Position in the sequence of the first element; default 0. */
  offset?: number | undefined;
  /** Where to write; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const randomOptions = object(
  {
    seed,
    distribution: choice(distributions),
    offset: optional(unchecked, 0),
    out: optional(tensor<"f32">()),
  } satisfies Fields<RandomOptions>,
  '{ seed: 1, distribution: "normal" }',
);

/**
 * Counter-based random numbers: element i is number offset + i of the seed's sequence, regardless of shape, device and
 * threads, so any part of a sequence can be drawn on its own.
 *
 * Number n is word n mod 4 of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
 * with the seed as key and ⌊n / 4⌋ as counter. `uniform` is (⌊word / 2^9⌋ + ½) / 2^23: evenly spaced, never 0 or 1, and
 * the same bits on every device. `normal` uses the Box-Muller transform (1958) of the uniform numbers a, b from words 0
 * and 1, or 2 and 3: √(-2 ln a) · cos 2πb and √(-2 ln a) · sin 2πb, at most 5.8 and equal on all devices within 2e-6.
 *
 * @param shape at most four sizes.
 * @returns an f32 tensor of this shape.
 * @throws INVALID_ARGUMENT (shape, seed, distribution, offset, more than 2^53 numbers), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, OUT_OF_MEMORY.
 */
export function random(device: Device, shape: Shape, options: RandomOptions): Tensor<"f32"> {
  openedDevice(device, "device");
  const sizes = readShape("shape", shape);
  const { seed, distribution, offset, out } = randomOptions(options, "options");
  checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER - shapeSize(sizes));
  const values = output("out", out, device, sizes, resultDType(out ?? { dtype: "f32" }), []);
  device.backend.random({ seed, offset, distribution, values: values.handle });
  return values;
}
