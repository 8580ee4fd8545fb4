import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/formats/weight_format.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { Model } from "../model.js";
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
      `format: expected mxfp4, the only format in which other software reads the experts of gpt_oss, got ${name}; ` +
        "MoeLayer.load can quantise them to others, with its option dtype",
    );
  }
  return {
    columnsPerGroup: group,
    narrowerGroups: "",
    wholeModel: true,
    fileFormat: "pt",
    storage: transformersStacks,
    pairsGateAndUp: false,
    module: (target) => `${target}_`,
    tensors: ({ codes, scales }, rows, columns) => ({
      blocks: { dtype: "U8", shape: [rows, columns / group, group / 2], data: codes },
      scales: { dtype: "U8", shape: [rows, columns / group], data: asBytes(scales as ArrayBufferView) },
    }),
    configuration: () => ({
      quantization_config: {
        quant_method: "mxfp4",
        modules_to_not_convert: [
          "model.layers.*.self_attn",
          "model.layers.*.mlp.router",
          "model.embed_tokens",
          "lm_head",
        ],
      },
    }),
  };
}

/** The present storage, whose names the layout extends. OpenAI's own names belong to files without quantization_config. */
function transformersStacks({ fields }: Model, used: LayerTensors): LayerTensors {
  const { name } = used.experts.up;
  if (name.endsWith("_proj")) return used;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${fields.path}: expected tensors named as Transformers names them, such as "model.layers.0.mlp.experts.gate_up_proj", got ${JSON.stringify(name)}`,
  );
}
