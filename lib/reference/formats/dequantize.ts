import { MoeError } from "../../core/errors.js";
import type { ScaleLevel, WeightFormat, WeightFormatName, WeightMatrix } from "../../core/formats/weight_format.js";
import { codeAt, dynamic8, isPlain, levelsOf, weightFormat } from "../../core/formats/weight_formats.js";
import { checkOrder } from "../../core/layer/input_order.js";
import { type DType, fromBF16, fromE4M3, fromE8M0, fromF16 } from "../../core/tensors/dtype.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, zeros } from "../core/matrix.js";
import { type ReferenceTensor, readMatrix } from "../core/tensor.js";

/** The values of a weight, by the definition of its format; every device must compute with these. */
export function dequantize(weight: WeightMatrix): Matrix {
  const format = weightFormat(weight.format);
  const { rows, columns, codes } = weight;
  const changed = weight.scalar ?? weight.inputScale ?? weight.inputOrder;
  if (isPlain(format) && changed === undefined) return readMatrix(codes, rows, columns);
  const codeOf = isPlain(format) ? plainCodes(codes) : packedCodes(format, codes);
  const levels = levelsOf(format);
  const scale = level(levels.scales, weight.scales, columns);
  const superScale = level(levels.superScales, weight.superScales, columns);
  const zero = level(levels.zeros, weight.zeros, columns, 0);
  const superZero = level(levels.superZeros, weight.superZeros, columns);
  const scaleOffset = format.offset === "scale_offset" ? superZero : () => 0;
  const hasMinimum = format.offset === "minimum";
  const scalar = weight.scalar ?? 1;
  const inputScale = (weight.inputScale as ReferenceTensor | undefined)?.values();
  const inputOrder = (weight.inputOrder as ReferenceTensor | undefined)?.integers();
  const result = zeros(rows, columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const code = codeOf(row, column);
      const factor = scale(row, column) * superScale(row, column) + scaleOffset(row, column);
      const value = hasMinimum
        ? code * factor * scalar - zero(row, column) * superZero(row, column)
        : (code - zero(row, column)) * factor * scalar;
      const input = inputOrder?.[column] ?? column;
      if (input < 0 || input >= columns) continue;
      result.values[row * columns + input] = value * (inputScale?.[column] ?? 1);
    }
  }
  return result;
}

export const runDequantize: Implementation<"dequantize"> = ({ weight, values }) => {
  values.store(dequantize(weight).values);
};

export const runQuantizationError: Implementation<"quantizationError"> = ({ values, weight, error }) => {
  const given = readMatrix(values, values.rows, values.columns).values;
  const errors = dequantize(weight).values.map((value, index) => value - (given[index] as number));
  const squares = (list: Float64Array) => list.reduce((sum, value) => sum + value * value, 0);
  const sum = squares(errors);
  error.store(Float64Array.of(sum === 0 ? 0 : Math.sqrt(sum / squares(given))));
};

/** @throws INVALID_ARGUMENT unless a weight's input order, if it has one, names every input once. */
export function checkInputOrder({ inputOrder }: WeightMatrix): void {
  if (inputOrder === undefined) return;
  checkOrder("inputOrder", (inputOrder as ReferenceTensor).integers());
}

/**
 * The values of a weight that will be stored as `format`; if that is plain, they have yet to be rounded to it.
 * @throws UNSUPPORTED_DTYPE if `format` is quantised and the weight is in another format: nothing is quantised here.
 */
export function storedValues(weight: WeightMatrix, format: WeightFormatName): Matrix {
  if (weight.format !== format && !isPlain(weightFormat(format))) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `weight: expected ${format}, in which the layer stores it, got ${weight.format}`,
    );
  }
  checkInputOrder(weight);
  return dequantize(weight);
}

/** The dtype that holds the values of a format exactly. */
export function storageOf(name: WeightFormatName): DType {
  const format = weightFormat(name);
  return isPlain(format) ? (format.code as DType) : "f64";
}

/** Reads the values of one level of scales; `absent` if the format has none. */
function level(
  shape: ScaleLevel | undefined,
  matrix: StridedMatrix | undefined,
  columns: number,
  absent = 1,
): (row: number, column: number) => number {
  if (shape === undefined || matrix === undefined) return () => absent;
  const stored = readMatrix(matrix, matrix.rows, matrix.columns);
  const values = stored.values.map((value) => scaleValue(shape, value));
  const width = shape.columns === 0 ? columns : shape.columns;
  return (row, column) => values[Math.floor(row / shape.rows) * stored.columns + Math.floor(column / width)] as number;
}

/** The value of a stored scale; types that are not dtypes are stored as bytes. */
export function scaleValue({ type }: ScaleLevel, stored: number): number {
  if (type === "e4m3") return fromE4M3(stored);
  if (type === "e8m0") return fromE8M0(stored);
  if (type === "dynamic8") return dynamic8[stored] as number;
  if (type === "odd4") return 2 * (stored & 15) + 1;
  if (type === "i8") return stored >= 128 ? stored - 256 : stored;
  return stored;
}

function plainCodes(codes: StridedMatrix): (row: number, column: number) => number {
  const { values, columns } = readMatrix(codes, codes.rows, codes.columns);
  return (row, column) => values[row * columns + column] as number;
}

function packedCodes(format: WeightFormat, codes: StridedMatrix): (row: number, column: number) => number {
  const bytes = (codes.handle as ReferenceTensor).map();
  const values = Float64Array.from({ length: 1 << format.bits }, (_, raw) => codeValue(format, raw));
  return (row, column) => {
    const first = row * codes.rowStride;
    const byteAt = (index: number) => bytes[first + index * codes.columnStride] ?? 0;
    return values[codeAt(format, byteAt, column)] as number;
  };
}

/** The value of one code, before any scale. */
export function codeValue({ code, bits, table }: WeightFormat, raw: number): number {
  switch (code) {
    case "e4m3":
      return fromE4M3(raw);
    case "signed_integer":
      return raw >= 1 << (bits - 1) ? raw - (1 << bits) : raw;
    case "table":
      return (table as readonly number[])[raw] as number;
    case "f16":
      return fromF16(raw);
    case "bf16":
      return fromBF16(raw);
    default:
      return raw;
  }
}
