import { closeGaps, cropRows, flipHighestBits, transpose, unpack, unpackWords, words } from "./bits.js";
import { chosenOrder, findGroups, reorderColumns } from "./input_order.js";
import { checkScales, groupCount, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix } from "./stored_matrix.js";

/** How numbers are packed into 32-bit words. */
interface Packing {
  readonly bits: number;
  /** Whether no number is in two words, so that bits are left over, as compressed-tensors had it before 0.17. */
  readonly gaps: boolean;
}

/** Without gaps first. */
const packings: readonly Packing[] = [2, 3, 4, 5, 6, 8].flatMap((bits) =>
  (32 % bits === 0 ? [false] : [false, true]).map((gaps) => ({ bits, gaps })),
);

/** The words that hold this many numbers. */
function wordCount({ bits, gaps }: Packing, numbers: number): number {
  return gaps ? Math.ceil(numbers / Math.floor(32 / bits)) : Math.ceil((numbers * bits) / 32);
}

/**
 * `pack-quantized` of compressed-tensors: each row is a stream of codes in 32-bit words, with 2^(bits - 1) added. Zero
 * points have it added too, and are packed along the rows.
 */
export const packedIntegers: Scheme = {
  takes: (matrix) => matrix.has("weight_packed", "I32"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight_packed", ["I32"]);
    const packing = packingOf(matrix);
    const { bits } = packing;
    const scales = matrix.need("weight_scale", floats);
    const count = groupCount(matrix, scales);
    const symmetric = !matrix.hasZeroPoints;
    const zeros = symmetric ? undefined : zerosOf(matrix, packing, count);
    const groups = findGroups(matrix);
    const of = groupsOf(matrix, scales, count, !symmetric);
    const format = `${symmetric ? "i" : "u"}${bits}_${of.name}_${scaleType(scales)}`;
    const used = [codes, scales, ...(zeros ? [zeros] : []), ...(groups ? [groups] : [])];
    const convert = ([codeBytes, scaleBytes, ...rest]: readonly Uint8Array[]) => {
      const stride = 4 * wordCount(packing, columns);
      let stored = packing.gaps
        ? closeGaps(words(codeBytes as Uint8Array), rows, columns, bits)
        : cropRows(codeBytes as Uint8Array, rows, stride, Math.ceil((columns * bits) / 8));
      if (symmetric) flipHighestBits(stored, rows, columns, bits);
      const zeroBytes = zeros && (rest.shift() as Uint8Array);
      const order = groups && chosenOrder(matrix, groups, rest.shift() as Uint8Array, of.size);
      if (order) stored = reorderColumns(stored, rows, columns, bits, order);
      return {
        codes: stored,
        scales: of.spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, count))),
        ...(zeros && zeroBytes && { zeros: of.spread(zerosAsBytes(matrix, zeros, zeroBytes, count, packing)) }),
        ...(order && { inputOrder: order }),
      };
    };
    matrix.checkStated(bits, count);
    return matrix.located(format, used, convert, { ignored: ["weight_shape"], changesInputs: groups !== undefined });
  },
};

/**
 * The words of a row tell how codes are packed; the configuration, if rows are so short that several packings fit, or if it
 * names bits that no packing here has: 7 bits with gaps take as many words as 8.
 */
function packingOf(matrix: StoredMatrix): Packing {
  const { rows, columns, quantization } = matrix;
  const codes = matrix.find("weight_packed") as FoundTensor;
  const possible = packings.filter((packing) => matrix.hasShape(codes, [rows, wordCount(packing, columns)]));
  const named = quantization.stated.flatMap(({ bits }) => bits ?? []);
  const known = named.every((bits) => packings.some((packing) => packing.bits === bits));
  const packing = possible.find(({ bits }) => named.includes(bits)) ?? (known ? possible[0] : undefined);
  if (packing !== undefined) return packing;
  const shape = (bits: number) => `${bits} bits: [${rows}, ${wordCount({ bits, gaps: false }, columns)}]`;
  throw matrix.error(
    `expected codes of 2, 3, 4, 5, 6 or 8 bits for [${rows}, ${columns}] weights, such as ${shape(4)} and ${shape(8)}, ` +
      `got shape [${codes.info.shape.join(", ")}]${known ? "" : ` and num_bits ${named.join(", ")}`}`,
  );
}

/** Zero points: packed along the rows, or a byte each as the first compressed-tensors wrote them. */
function zerosOf(matrix: StoredMatrix, packing: Packing, count: number): FoundTensor {
  if (matrix.has("weight_zero_point", "I8")) return matrix.need("weight_zero_point", ["I8"], [matrix.rows, count]);
  return matrix.need("weight_zero_point", ["I32"], [wordCount(packing, matrix.rows), count]);
}

/** Zero points of [rows, groups], with 2^(bits - 1) added. @throws BAD_CHECKPOINT for one of more bits than the codes. */
function zerosAsBytes(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  bytes: Uint8Array,
  groups: number,
  packing: Packing,
): Uint8Array {
  if (tensor.info.dtype !== "I8") return unpackZeros(bytes, matrix.rows, groups, packing);
  const half = 2 ** (packing.bits - 1);
  return bytes.map((byte, index) => {
    const zero = (byte << 24) >> 24;
    if (zero >= -half && zero < half) return zero + half;
    const place = `[${Math.floor(index / groups)}, ${index % groups}]`;
    throw matrix.errorAt(tensor, `expected zero points from ${-half} to ${half - 1}, got ${zero} at ${place}`);
  });
}

function unpackZeros(bytes: Uint8Array, rows: number, groups: number, { bits, gaps }: Packing): Uint8Array {
  const packed = words(bytes);
  const perGroup = packed.length / groups;
  const streams = transpose(packed, perGroup, groups);
  const zeros = new Uint8Array(rows * groups);
  const unpackGroup = gaps ? unpackWords : unpack;
  for (let group = 0; group < groups; group++) {
    zeros.set(unpackGroup(streams.subarray(group * perGroup, (group + 1) * perGroup), rows, bits), group * rows);
  }
  return transpose(zeros, groups, rows);
}
