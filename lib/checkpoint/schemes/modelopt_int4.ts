import { findInputScale } from "./nvfp4.js";
import { checkScales, floats, floatsOf, groupCount, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";

/** INT4 (AWQ) of ModelOpt: a byte has the codes of two rows, the even one in its low half, in two's complement. */
export const modeloptInt4: Scheme = {
  takes: (matrix) => matrix.has("weight", "U8") && matrix.has("weight_scale", ...floats),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    if (rows % 2 !== 0 || columns % 2 !== 0) {
      throw matrix.error(`expected even numbers of rows and columns, got ${rows} x ${columns}`);
    }
    const codes = matrix.need("weight", ["U8"], [rows / 2, columns]);
    const scales = matrix.need("weight_scale", floats);
    const count = groupCount(matrix, scales);
    const input = findInputScale(matrix);
    const used = [codes, scales, ...(input ? [input] : [])];
    const groups = groupsOf(matrix, scales, count);
    const format = `i4_${groups.name}_${scaleType(scales)}`;
    const convert = (bytes: readonly Uint8Array[]) => {
      const [codeBytes, scaleBytes, inputBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      return {
        codes: splitRows(codeBytes, columns),
        scales: groups.spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes, count))),
        ...(input && { inputScale: floatsOf(input, checkScales(matrix, input, inputBytes, columns)) }),
      };
    };
    return matrix.located(format, used, convert, { changesInputs: input !== undefined });
  },
};

function splitRows(pairs: Uint8Array, columns: number): Uint8Array {
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
