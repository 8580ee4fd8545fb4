import { asFactors, checkScales, floatsOf, numberShapes, ofEachRow } from "./scales.js";
import type { Scheme } from "./scheme.js";
import type { Suffix } from "./stored_matrix.js";

const group = 16;

/**
 * Two E2M1 codes a byte, the lower column in the low half, an e4m3 scale for every 16 columns, and a number for the whole
 * matrix (for each, where gate and up share a tensor), by which compressed-tensors divides and ModelOpt multiplies.
 */
function nvfp4Scheme(takes: Scheme["takes"], codesName: Suffix, globalName: Suffix, divides: boolean): Scheme {
  return {
    takes,
    locate: (matrix) => {
      const { rows, columns } = matrix;
      if (columns % group !== 0) throw matrix.error(`expected columns in groups of ${group}, got ${columns}`);
      const codes = matrix.need(codesName, ["U8"], [rows, columns / 2]);
      const scales = matrix.need("weight_scale", ["F8_E4M3"], [rows, columns / group]);
      const global = matrix.need(globalName, ["F32"], ...numberShapes(matrix));
      matrix.checkStated(4, columns / group);
      const convert = (bytes: readonly Uint8Array[]) => {
        const [codeBytes, scaleBytes, globalBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
        const factors = asFactors(matrix, global, floatsOf(global, globalBytes), divides);
        return {
          codes: codeBytes,
          scales: checkScales(matrix, scales, scaleBytes, columns / group),
          superScales: ofEachRow(factors, rows),
        };
      };
      return matrix.located("nvfp4", [codes, scales, global], convert, { ignored: ["weight_shape"] });
    },
  };
}

/** `nvfp4-pack-quantized` of compressed-tensors. */
export const packedNvfp4 = nvfp4Scheme(
  (matrix) => matrix.has("weight_packed", "U8") && matrix.has("weight_scale", "F8_E4M3"),
  "weight_packed",
  "weight_global_scale",
  true,
);

/** NVFP4 of ModelOpt. */
export const modeloptNvfp4 = nvfp4Scheme(
  (matrix) => matrix.has("weight", "U8") && matrix.has("weight_scale", "F8_E4M3"),
  "weight",
  "weight_scale_2",
  false,
);
