import { flipHighestBits } from "./bits.js";
import { codeScales } from "./code_scales.js";
import { chosenOrder, findGroups, reorderColumns } from "./input_order.js";
import { checkScales, isNumber, numberShapes, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { floats } from "./stored_matrix.js";

/**
 * `weight` I8 [N, K] and its scales: `int-quantized` of compressed-tensors with `weight_scale` for rows, groups or the matrix
 * and perhaps `weight_g_idx` (act-order), and `blockwise_int8` of SGLang with `weight_scale_inv` for blocks.
 */
export const int8: Scheme = {
  takes: (matrix) => matrix.has("weight", "I8") && (matrix.has("weight_scale") || matrix.has("weight_scale_inv")),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["I8"], [rows, columns]);
    const scales = matrix.need(matrix.has("weight_scale") ? "weight_scale" : "weight_scale_inv", floats);
    const { name, width, columns: group, spread } = codeScales(matrix, scales, matrix.hasZeroPoints);
    const ofRows = [[rows, width], ...(width === 1 ? [[rows]] : [])];
    const shapes = isNumber(matrix, scales) ? numberShapes(matrix) : ofRows;
    const zeros = matrix.hasZeroPoints ? matrix.need("weight_zero_point", ["I8"], ...shapes) : undefined;
    const groups = group === undefined ? undefined : findGroups(matrix);
    const format = `${zeros ? "u" : "i"}8_${name}_${scaleType(scales)}`;
    const used = [codes, scales, ...(zeros ? [zeros] : []), ...(groups ? [groups] : [])];
    const convert = ([codeBytes, scaleBytes, ...rest]: readonly Uint8Array[]) => {
      const zeroBytes = zeros && (rest.shift() as Uint8Array);
      const order = groups && group && chosenOrder(matrix, groups, rest.shift() as Uint8Array, group);
      const stored = order
        ? reorderColumns(codeBytes as Uint8Array, rows, columns, 8, order)
        : (codeBytes as Uint8Array);
      // Formats with zero points have unsigned codes: 128 is added to both.
      if (zeroBytes) {
        flipHighestBits(stored, rows, columns, 8);
        flipHighestBits(zeroBytes, zeroBytes.length / width, width, 8);
      }
      return {
        codes: stored,
        scales: spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, width))),
        ...(zeroBytes && { zeros: spread(zeroBytes) }),
        ...(order && { inputOrder: order }),
      };
    };
    matrix.checkStated(8, width);
    return matrix.located(format, used, convert, { changesInputs: groups !== undefined });
  },
};

/** Eight bits of bitsandbytes: `weight` I8 [N, K], times `SCB` / 127 for each row. */
export const bnbInt8: Scheme = {
  takes: (matrix) => matrix.has("weight", "I8") && matrix.has("SCB"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["I8"], [rows, columns]);
    const scales = matrix.need("SCB", ["F32"], [rows]);
    matrix.checkStated(8);
    const layout = matrix.has("weight_format") ? matrix.need("weight_format", ["U8"], [], [1]) : undefined;
    return matrix.located("i8_channel_f32", [codes, scales, ...(layout ? [layout] : [])], (bytes) => {
      const [codeBytes, scaleBytes, layoutBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      if (layout && layoutBytes[0] !== 0) {
        throw matrix.errorAt(layout, `expected 0, rows one after another, got ${layoutBytes[0]}`);
      }
      const checked = checkScales(matrix, scales, scaleBytes, 1);
      const sizes = new Float32Array(checked.buffer, checked.byteOffset, rows);
      return { codes: codeBytes, scales: sizes.map((size) => size / 127) };
    });
  },
};
