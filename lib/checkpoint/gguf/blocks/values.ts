import { codeAt, weightFormat } from "../../../core/formats/weight_formats.js";
import { convertInto } from "../../../core/tensors/convert.js";
import { fromE4M3, fromE8M0, fromF16 } from "../../../core/tensors/dtype.js";
import type { QuantizedBytes } from "../../locate/located_weight.js";

/** The values of a matrix of `shape` [N, K] whose blocks were converted to this format, as float32. */
export function blockValues(
  name: string,
  weight: QuantizedBytes,
  [rows, columns]: readonly [number, number],
): Float32Array {
  const format = weightFormat(name);
  const { bits, code, table, scales: level, superScales: superLevel } = format;
  const width = level?.columns ?? columns;
  const superWidth = superLevel?.columns || columns;
  const scales = numbers(weight.scales, level?.type);
  const zeros = numbers(weight.zeros, level?.type);
  const superScales = numbers(weight.superScales, superLevel?.type);
  const superZeros = numbers(weight.superZeros, superLevel?.type);
  const { codes } = weight;
  const sign = code === "signed_integer" ? 1 << (bits - 1) : 0;
  const byteAt = (index: number) => codes[index] ?? 0;
  const values = new Float32Array(rows * columns);
  // Rows are whole blocks, so groups follow each other through all rows.
  for (let first = 0; first < values.length; first += width) {
    const group = first / width;
    const block = Math.floor(first / superWidth);
    const scale = (scales?.[group] ?? 1) * (superScales?.[block] ?? 1);
    const minimum = (zeros?.[group] ?? 0) * (superZeros?.[block] ?? 1);
    for (let index = first; index < first + width; index++) {
      const raw = codeAt(format, byteAt, index);
      values[index] = (table === undefined ? (raw ^ sign) - sign : (table[raw] as number)) * scale - minimum;
    }
  }
  return values;
}

/** Scales as numbers. */
function numbers(scales: ArrayBufferView | undefined, type: string | undefined): ArrayLike<number> | undefined {
  if (scales === undefined || scales instanceof Float32Array) return scales;
  if (scales instanceof Uint16Array) return convertInto(new Float64Array(scales.length), scales, fromF16);
  const bytes = scales as Uint8Array;
  if (type === "i8") return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (type === "odd4") return convertInto(new Float64Array(bytes.length), bytes, (byte) => 2 * byte + 1);
  if (type === "e8m0") return convertInto(new Float64Array(bytes.length), bytes, fromE8M0);
  return type === "e4m3" ? convertInto(new Float64Array(bytes.length), bytes, fromE4M3) : bytes;
}
