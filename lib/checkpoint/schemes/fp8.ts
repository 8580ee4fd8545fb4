import { type CodeScales, codeScales } from "./code_scales.js";
import { asFactors, checkE4M3, checkScales, floatsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix } from "./stored_matrix.js";

/**
 * `weight` in e4m3 [N, K], times the scales: for blocks of 128 x 128 (DeepSeek-V3, whose `weight_scale_inv` is multiplied
 * in spite of its name), for rows, for the whole matrix, for groups of columns, or e8m0 for every 32 columns (mxfp8). GPTQModel's
 * `weight_scale_inv` is divided by, as its configuration says.
 */
export const fp8: Scheme = {
  takes: (matrix) => matrix.has("weight", "F8_E4M3"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["F8_E4M3"], [rows, columns]);
    const divides = matrix.quantization.dividesByScales;
    const scales = scalesOf(matrix, divides);
    const { name, width, spread } = isMxfp8(matrix, scales) ? mxfp8(matrix, scales) : codeScales(matrix, scales);
    matrix.checkStated(8, width);
    return matrix.located(`e4m3_${name}_${divides ? "f32" : scaleType(scales)}`, [codes, scales], (bytes) => {
      const [codeBytes, scaleBytes] = bytes as [Uint8Array, Uint8Array];
      return {
        codes: checkE4M3(matrix, codes, codeBytes),
        scales: divides
          ? spread(asFactors(matrix, scales, floatsOf(scales, scaleBytes), true))
          : spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes, width))),
      };
    });
  },
};

function scalesOf(matrix: StoredMatrix, areFloats: boolean): FoundTensor {
  const name = (["weight_scale_inv", "weight_scale", "scale"] as const).find((suffix) => matrix.has(suffix));
  const usual = matrix.quantization.fields?.has("weight_block_size") ? "weight_scale_inv" : "weight_scale";
  return matrix.need(name ?? usual, areFloats ? floats : [...floats, "F8_E8M0", "U8"]);
}

/** Scales in U8 are those of mxfp8, unless they have another shape and the configuration names larger blocks. */
function isMxfp8(matrix: StoredMatrix, scales: FoundTensor): boolean {
  if (scales.info.dtype !== "U8") return false;
  return matrix.quantization.blockSize === undefined || matrix.hasShape(scales, [matrix.rows, matrix.columns / 32]);
}

function mxfp8(matrix: StoredMatrix, scales: FoundTensor): CodeScales {
  const { rows, columns } = matrix;
  if (columns % 32 !== 0) throw matrix.error(`expected columns in groups of 32, got ${columns}`);
  matrix.check(scales, ["U8"], [rows, columns / 32]);
  return { name: "g32", width: columns / 32, spread: (values) => values };
}
