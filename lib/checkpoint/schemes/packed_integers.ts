import { cropRows, flipHighestBits, transpose, unpack, words } from "./bits.js";
import { inputOrder, reorderColumns } from "./input_order.js";
import { checkScales, floats, groupCount, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/**
 * `pack-quantized` of compressed-tensors: each row is a stream of codes in 32-bit words, with 2^(bits - 1) added. Zero
 * points have it added too, and are packed along the rows.
 */
export const packedIntegers: Scheme = {
  takes: (matrix) => matrix.has("weight_packed", "I32"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight_packed", ["I32"]);
    const bits = bitsOf(matrix);
    const scales = matrix.need("weight_scale", floats);
    const count = groupCount(matrix, scales);
    const symmetric = !matrix.has("weight_zero_point");
    const zeros = symmetric ? undefined : zerosOf(matrix, bits, count);
    const groups = matrix.has("weight_g_idx") ? matrix.need("weight_g_idx", ["I32"], [columns]) : undefined;
    const of = groupsOf(matrix, scales, count, !symmetric);
    const format = `${symmetric ? "i" : "u"}${bits}_${of.name}_${scaleType(scales)}`;
    const used = [codes, scales, ...(zeros ? [zeros] : []), ...(groups ? [groups] : [])];
    const convert = ([codeBytes, scaleBytes, ...rest]: readonly Uint8Array[]) => {
      const stride = 4 * Math.ceil((columns * bits) / 32);
      let stored = cropRows(codeBytes as Uint8Array, rows, stride, Math.ceil((columns * bits) / 8));
      if (symmetric) flipHighestBits(stored, rows, columns, bits);
      const zeroBytes = zeros && (rest.shift() as Uint8Array);
      const order = groups && inputOrder(matrix, groups, rest.shift() as Uint8Array, of.size);
      if (order) stored = reorderColumns(stored, rows, columns, bits, order);
      return {
        codes: stored,
        scales: of.spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, count))),
        ...(zeros && zeroBytes && { zeros: of.spread(zerosAsBytes(matrix, zeros, zeroBytes, count, bits)) }),
        ...(order && { inputOrder: order }),
      };
    };
    return matrix.located(format, used, convert, { ignored: ["weight_shape"], changesInputs: groups !== undefined });
  },
};

/** The bits of a code, which the words of a row tell; the configuration, if rows are so short that several fit. */
function bitsOf(matrix: StoredMatrix): number {
  const { rows, columns, quantization } = matrix;
  const fits = (bits: number) => {
    const codes = matrix.find("weight_packed");
    return codes !== undefined && matrix.hasShape(codes, [rows, Math.ceil((columns * bits) / 32)]);
  };
  const possible = [2, 3, 4, 5, 6, 8].filter(fits);
  const bits = possible.find((one) => quantization.bits.includes(one)) ?? possible[0];
  if (bits !== undefined) return bits;
  const shape = (one: number) => `${one} bits: [${rows}, ${Math.ceil((columns * one) / 32)}]`;
  throw matrix.error(
    `expected codes of 2, 3, 4, 5, 6 or 8 bits for [${rows}, ${columns}] weights, such as ${shape(4)} and ${shape(8)}, ` +
      `got shape [${matrix.find("weight_packed")?.info.shape.join(", ")}]`,
  );
}

/** Zero points: packed along the rows, or a byte each as the first compressed-tensors wrote them. */
function zerosOf(matrix: StoredMatrix, bits: number, count: number): FoundTensor {
  if (matrix.has("weight_zero_point", "I8")) return matrix.need("weight_zero_point", ["I8"], [matrix.rows, count]);
  return matrix.need("weight_zero_point", ["I32"], [Math.ceil((matrix.rows * bits) / 32), count]);
}

/** Zero points of [rows, groups], with 2^(bits - 1) added. @throws BAD_CHECKPOINT for one of more bits than the codes. */
function zerosAsBytes(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  bytes: Uint8Array,
  groups: number,
  bits: number,
): Uint8Array {
  if (tensor.info.dtype !== "I8") return unpackZeros(bytes, matrix.rows, groups, bits);
  const half = 2 ** (bits - 1);
  return bytes.map((byte, index) => {
    const zero = (byte << 24) >> 24;
    if (zero >= -half && zero < half) return zero + half;
    const place = `[${Math.floor(index / groups)}, ${index % groups}]`;
    throw matrix.errorAt(tensor, `expected zero points from ${-half} to ${half - 1}, got ${zero} at ${place}`);
  });
}

function unpackZeros(bytes: Uint8Array, rows: number, groups: number, bits: number): Uint8Array {
  const packed = words(bytes);
  const perGroup = packed.length / groups;
  const streams = transpose(packed, perGroup, groups);
  const zeros = new Uint8Array(rows * groups);
  for (let group = 0; group < groups; group++) {
    zeros.set(unpack(streams.subarray(group * perGroup, (group + 1) * perGroup), rows, bits), group * rows);
  }
  return transpose(zeros, groups, rows);
}
