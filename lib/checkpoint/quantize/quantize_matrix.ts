import type { WeightFormat } from "../../core/formats/weight_format.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { disposeQuantized, mapTensors, type QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import { quantizationError } from "../../operators/formats/dequantize.js";
import { denseMatrix } from "../../operators/formats/matrices.js";
import { quantize, type ScaleChoice } from "../../operators/formats/quantize.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { QuantizedBytes } from "../locate/located_weight.js";

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

/** A matrix of floats, and where it comes from, for errors. */
export interface SourceMatrix {
  readonly values: Tensor<FloatDType>;
  readonly place: string;
}

/**
 * Quantises a matrix on its device, and reads the result.
 * @throws BAD_CHECKPOINT if an element is not finite.
 */
export async function quantizeMatrix(
  { values, place }: SourceMatrix,
  format: WeightFormat,
  scale: ScaleChoice,
): Promise<QuantizedMatrix> {
  using weight = quantize(values, format.name, { scale });
  return await readWeight(weight, values, place);
}

/** The same with matrices of one size, which get one scale of their scales. */
export async function quantizeMatrices(
  matrices: readonly [SourceMatrix, ...SourceMatrix[]],
  format: WeightFormat,
  scale: ScaleChoice,
): Promise<readonly QuantizedMatrix[]> {
  if (matrices.length === 1) return [await quantizeMatrix(matrices[0], format, scale)];
  using all = oneAboveOther(matrices);
  using whole = quantize(all, format.name, { scale });
  const [rows] = matrices[0].values.shape as [number, number];
  const quantized: QuantizedMatrix[] = [];
  for (const [index, { values, place }] of matrices.entries()) {
    const own = mapTensors(whole, (tensor) => tensor.rows(index * rows, (index + 1) * rows));
    try {
      quantized.push(await readWeight(own, values, place));
    } finally {
      disposeQuantized(own);
    }
  }
  return quantized;
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

/** Matrices [N, K] as one of float32, which holds all floats exactly. */
function oneAboveOther(matrices: readonly [SourceMatrix, ...SourceMatrix[]]): Tensor<"f32"> {
  const { device, shape } = matrices[0].values;
  const [rows, columns] = shape as [number, number];
  const all = device.empty([matrices.length * rows, columns], "f32");
  for (const [index, { values }] of matrices.entries()) {
    const source = denseMatrix(values, 0);
    const target = all.handle.view([rows, columns], index * rows * columns);
    device.backend.copyMatrix({ source, target });
    source.handle.free();
    target.free();
  }
  return all;
}
