import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/weight_format.js";
import { asBytes } from "../schemes/bits.js";
import type { PackedLayout } from "./packed_layout.js";

const group = 32;

/**
 * gpt-oss's own layout: `gate_up_proj_blocks` [E, N, K / 32, 16] and `gate_up_proj_scales` [E, N, K / 32], and the same of
 * `down_proj`. Transformers and vLLM read its experts in no other quantised format.
 * @throws UNSUPPORTED_DTYPE for a format other than mxfp4.
 */
export function gptOssMxfp4({ name }: WeightFormat): PackedLayout {
  if (name !== "mxfp4") {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `format: expected mxfp4 for gpt_oss, whose experts other software reads in no other format, got ${name}; ` +
        "MoeLayer.load quantises them by dtype",
    );
  }
  return {
    columnsPerGroup: group,
    stacked: true,
    pairsGateAndUp: false,
    module: (target) => `${target}_`,
    tensors: ({ codes, scales }, rows, columns) => ({
      blocks: { dtype: "U8", shape: [rows, columns / group, group / 2], data: codes },
      scales: { dtype: "U8", shape: [rows, columns / group], data: asBytes(scales as ArrayBufferView) },
    }),
    configuration: () => ({
      quant_method: "mxfp4",
      modules_to_not_convert: [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
      ],
    }),
  };
}
