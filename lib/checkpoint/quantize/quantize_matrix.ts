import type { FloatDType } from "../../core/dtype.js";
import type { Tensor } from "../../core/tensor.js";
import type { WeightFormat } from "../../core/weight_format.js";
import { disposeQuantized, mapTensors, type QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import { quantizationError } from "../../operators/formats/dequantize.js";
import { denseMatrix, quantize, type ScaleChoice } from "../../operators/formats/quantize.js";
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

interface QuantizedMatrix {
  readonly bytes: QuantizedBytes;
  /** See {@link quantizationError}. */
  readonly error: number;
}

/**
 * Quantises a matrix on its device, and reads the result.
 * @param place where the matrix comes from, for errors.
 * @param partner a matrix of the same size, together with which it is quantised: both get one scale of their scales.
 * @throws BAD_CHECKPOINT if an element is not finite.
 */
export async function quantizeMatrix(
  values: Tensor<FloatDType>,
  format: WeightFormat,
  scale: ScaleChoice,
  place: string,
  partner?: Tensor<FloatDType>,
): Promise<QuantizedMatrix> {
  using both = partner && oneAboveOther(values, partner);
  using whole = quantize(both ?? values, format.name, { scale });
  if (both === undefined) return await readWeight(whole, values, place);
  const [rows] = values.shape as [number, number];
  const own = mapTensors(whole, (tensor) => tensor.rows(0, rows));
  try {
    return await readWeight(own, values, place);
  } finally {
    disposeQuantized(own);
  }
}

/** What a weight holds, and how it differs from the values that it was made of. */
async function readWeight(
  weight: QuantizedWeight,
  values: Tensor<FloatDType>,
  place: string,
): Promise<QuantizedMatrix> {
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

/** Two matrices [N, K] as one [2 N, K] of float32, which holds all floats exactly. */
function oneAboveOther(first: Tensor<FloatDType>, second: Tensor<FloatDType>): Tensor<"f32"> {
  const { device } = first;
  const [rows, columns] = first.shape as [number, number];
  const both = device.empty([2 * rows, columns], "f32");
  for (const [index, matrix] of [first, second].entries()) {
    const source = denseMatrix(matrix, 0);
    const target = both.handle.view([rows, columns], index * rows * columns);
    device.backend.copyMatrix({ source, target });
    source.handle.free();
    target.free();
  }
  return both;
}
