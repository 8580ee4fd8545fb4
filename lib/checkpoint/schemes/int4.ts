import { checkScales, groupCount, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix, type Suffix } from "./stored_matrix.js";

/** Codes of 4 bits in two's complement, two a byte, and scales for rows or groups of columns. */
function int4Scheme(
  takes: Scheme["takes"],
  codesOf: (matrix: StoredMatrix) => FoundTensor,
  toRows: (bytes: Uint8Array, matrix: StoredMatrix) => Uint8Array,
  ignored: readonly Suffix[],
): Scheme {
  return {
    takes,
    locate: (matrix) => {
      const codes = codesOf(matrix);
      const scales = matrix.need(matrix.has("weight_scale") ? "weight_scale" : "weight_scale_inv", floats);
      const count = groupCount(matrix, scales);
      matrix.check(scales, floats, [matrix.rows, count], ...(count === 1 ? [[matrix.rows]] : []));
      const groups = groupsOf(matrix, scales, count);
      const convert = ([codeBytes, scaleBytes]: readonly Uint8Array[]) => ({
        codes: toRows(codeBytes as Uint8Array, matrix),
        scales: groups.spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, count))),
      });
      matrix.checkStated(4, count);
      return matrix.located(`i4_${groups.name}_${scaleType(scales)}`, [codes, scales], convert, { ignored });
    },
  };
}

/**
 * INT4 (AWQ) of ModelOpt: a byte has the codes of two rows, the even one in its low half. `weight_scale_2`, which W4A8_AWQ has
 * too, is for products in fp8: the weights are divided by it before and multiplied afterwards.
 */
export const modeloptInt4 = int4Scheme(
  (matrix) => matrix.hasPairsOfRows,
  (matrix) => {
    const { rows, columns } = matrix;
    if (rows % 2 !== 0 || columns % 2 !== 0) {
      throw matrix.error(`expected even numbers of rows and columns, got ${rows} x ${columns}`);
    }
    return matrix.need("weight", ["U8"], [rows / 2, columns]);
  },
  splitRows,
  ["weight_scale_2"],
);

/** `w4afp8` of SGLang: a byte has the codes of two columns, the even one in its low half. */
export const byteInt4 = int4Scheme(
  (matrix) => {
    const codes = matrix.find("weight");
    const scaled = matrix.has("weight_scale_inv", ...floats) || matrix.has("weight_scale", ...floats);
    return scaled && codes?.info.dtype === "I8" && matrix.hasShape(codes, [matrix.rows, matrix.columns / 2]);
  },
  (matrix) => matrix.need("weight", ["I8"]),
  (bytes) => bytes,
  [],
);

function splitRows(pairs: Uint8Array, { columns }: StoredMatrix): Uint8Array {
  const target = new Uint8Array(pairs.byteLength);
  const stride = columns / 2;
  for (let start = 0; start < pairs.byteLength; start += columns) {
    for (let index = 0; index < stride; index++) {
      const [first, second] = [pairs[start + 2 * index] as number, pairs[start + 2 * index + 1] as number];
      target[start + index] = (first & 15) | ((second & 15) << 4);
      target[start + stride + index] = (first >> 4) | (second & 0xf0);
    }
  }
  return target;
}
