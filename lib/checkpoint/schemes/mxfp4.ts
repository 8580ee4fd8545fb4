import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import type { Quantization } from "./quantization.js";
import { checkScales } from "./scales.js";
import type { Scheme } from "./scheme.js";
import type { Suffix } from "./stored_matrix.js";

const group = 32;

/**
 * Two E2M1 codes a byte, the lower column in the low half, and an e8m0 scale for every 32 columns.
 * @param dtypes those that the codes may have.
 */
function mxfp4Scheme(
  takes: Scheme["takes"],
  names: readonly [codes: Suffix, scales: Suffix],
  dtypes: readonly SafetensorsDType[],
  blocked: boolean,
): Scheme {
  return {
    takes,
    locate: (matrix) => {
      const { rows, columns, quantization } = matrix;
      const groups = columns / group;
      checkDataType(quantization);
      if (!Number.isInteger(groups)) throw matrix.error(`expected columns in groups of ${group}, got ${columns}`);
      const shape = blocked ? [rows, groups, group / 2] : [rows, columns / 2];
      const codes = matrix.need(names[0], dtypes, shape);
      const scales = matrix.need(names[1], ["U8", "F8_E8M0"], [rows, groups]);
      matrix.checkStated(4, groups);
      return matrix.located(
        "mxfp4",
        [codes, scales],
        ([codeBytes, scaleBytes]) => ({
          codes: codeBytes as Uint8Array,
          scales: checkScales(matrix, scales, scaleBytes as Uint8Array, groups),
        }),
        { ignored: ["weight_shape"] },
      );
    },
  };
}

/** AutoRound writes its `mx_int` under the same names. */
function checkDataType(quantization: Quantization): void {
  const type = quantization.word("data_type");
  if (type === undefined || type.startsWith("mx_fp")) return;
  throw badCheckpoint(
    quantization.fields?.path ?? "",
    `data_type: expected "mx_fp" for codes with scales in U8, got ${describe(type)}`,
  );
}

/** gpt-oss: `_blocks` [E, N, K / 32, 16] and `_scales`; `.blocks` and `.scales` in OpenAI's own files. */
export const gptOssMxfp4 = mxfp4Scheme((matrix) => matrix.has("blocks"), ["blocks", "scales"], ["U8"], true);

/** DeepSeek-V4: `weight` as I8 [N, K / 2] and `scale` in F8_E8M0; either may be viewed as U8. */
export const deepseekMxfp4 = mxfp4Scheme(
  (matrix) => matrix.has("weight", "I8", "U8") && matrix.has("scale", "F8_E8M0", "U8"),
  ["weight", "scale"],
  ["I8", "U8"],
  false,
);

/** MXFP4 of Quark and of ModelOpt. */
export const plainMxfp4 = mxfp4Scheme(
  (matrix) => matrix.has("weight", "U8") && matrix.has("weight_scale", "U8", "F8_E8M0"),
  ["weight", "weight_scale"],
  ["U8"],
  false,
);

/** `mxfp4-pack-quantized` of compressed-tensors. */
export const packedMxfp4 = mxfp4Scheme(
  (matrix) => matrix.has("weight_packed", "U8") && matrix.has("weight_scale", "U8", "F8_E8M0"),
  ["weight_packed", "weight_scale"],
  ["U8"],
  false,
);
