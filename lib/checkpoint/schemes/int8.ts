import { flipHighestBits, repeated } from "./bits.js";
import { checkScales, floats, groupCount, groupsOf, scalarShapes, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";

/** `int-quantized` of compressed-tensors: `weight` I8 [N, K] and `weight_scale` for rows, groups or the matrix. */
export const int8: Scheme = {
  takes: (matrix) => matrix.has("weight", "I8") && matrix.has("weight_scale"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["I8"], [rows, columns]);
    const scales = matrix.need("weight_scale", floats);
    const single = scalarShapes.some((shape) => matrix.hasShape(scales, shape));
    const count = single ? 1 : groupCount(matrix, scales);
    const shapes = single ? scalarShapes : [[rows, count], ...(count === 1 ? [[rows]] : [])];
    const zeros = matrix.has("weight_zero_point") ? matrix.need("weight_zero_point", ["I8"], ...shapes) : undefined;
    const groups = groupsOf(matrix, scales, count);
    const format = `${zeros ? "u" : "i"}8_${groups.name}_${scaleType(scales)}`;
    const ofRows = (bytes: Uint8Array) => (single ? repeated(bytes, rows) : bytes);
    return matrix.located(format, [codes, scales, ...(zeros ? [zeros] : [])], (bytes) => {
      const [codeBytes, scaleBytes, zeroBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      // Formats with zero points have unsigned codes: 128 is added to both.
      if (zeros) {
        flipHighestBits(codeBytes, rows, columns, 8);
        flipHighestBits(zeroBytes, single ? 1 : rows, count, 8);
      }
      const checked = ofRows(checkScales(matrix, scales, scaleBytes, count));
      return {
        codes: codeBytes,
        scales: groups.spread(scaleElements(scales, checked)),
        ...(zeros && { zeros: groups.spread(ofRows(zeroBytes)) }),
      };
    });
  },
};

/** Eight bits of bitsandbytes: `weight` I8 [N, K], times `SCB` / 127 for each row. */
export const bnbInt8: Scheme = {
  takes: (matrix) => matrix.has("weight", "I8") && matrix.has("SCB"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["I8"], [rows, columns]);
    const scales = matrix.need("SCB", ["F32"], [rows]);
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
