import type { FloatDType } from "../../core/dtype.js";
import type { Tensor } from "../../core/tensor.js";
import type { WeightFormat } from "../../core/weight_format.js";
import { quantizationError } from "../../operators/formats/dequantize.js";
import { quantize, type ScaleChoice } from "../../operators/formats/quantize.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { QuantizedBytes } from "../located_weight.js";

/** The relative error of one matrix; see {@link quantizationError}. */
export interface MatrixError {
  readonly layer: number;
  /** Such as `experts[3].gate`. */
  readonly place: string;
  /** Such as `experts.gate`. */
  readonly role: string;
  readonly error: number;
}

/**
 * Quantises a matrix on its device, and reads the result.
 * @param place where the matrix comes from, for errors.
 * @throws BAD_CHECKPOINT if an element is not finite.
 */
export async function quantizeMatrix(
  values: Tensor<FloatDType>,
  format: WeightFormat,
  scale: ScaleChoice,
  place: string,
): Promise<{ readonly bytes: QuantizedBytes; readonly error: number }> {
  using weight = quantize(values, format.name, { scale });
  using measured = quantizationError(values, weight);
  const raw = async (tensor: Tensor | undefined) => tensor && { data: await tensor.raw() };
  const [codes, scales, superScales, zeros, superZeros] = [
    await weight.codes.raw(),
    await raw(weight.scales),
    await raw(weight.superScales),
    await raw(weight.zeros),
    await raw(weight.superZeros),
  ];
  const [error] = (await measured.data()) as unknown as [number];
  if (!Number.isFinite(error)) throw badCheckpoint(place, "expected finite weights, got NaN or infinity");
  const bytes = {
    codes,
    ...(scales && { scales: scales.data }),
    ...(superScales && { superScales: superScales.data }),
    ...(zeros && { zeros: zeros.data }),
    ...(superZeros && { superZeros: superZeros.data }),
  };
  return { bytes, error };
}
