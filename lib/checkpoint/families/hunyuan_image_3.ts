import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import type { Family } from "./family.js";
import { hunyuanV1Moe } from "./hunyuan_v1_moe.js";

/**
 * HunyuanImage 3.0: HunyuanTopKGate, HunyuanMLP and HunyuanMoE of Tencent's own code. Hunyuan-A13B's layers, of which each matrix of
 * gate and up has the rows of up first.
 */
export const hunyuanImage3: Family = {
  ...hunyuanV1Moe,
  modelType: "hunyuan_image_3_moe",
  config: (fields, layer) => {
    fields.require("hidden_act", "silu");
    fields.require("mlp_bias", false);
    return hunyuanV1Moe.config(fields, layer);
  },
  tensors: (prefix, fields, layer) => {
    const block = `${prefix}.mlp`;
    return [
      {
        router: { name: `${block}.gate.wg.weight` },
        experts: upBeforeGate(`${block}.experts.{e}`),
        ...(hunyuanV1Moe.config(fields, layer).sharedExpert && { shared: upBeforeGate(`${block}.shared_mlp`) }),
      },
    ];
  },
};

function upBeforeGate(expert: string): LayerTensors["experts"] {
  const both: NamedWeight = { name: `${expert}.gate_and_up_proj.weight` };
  return {
    gate: { ...both, part: "second_half" },
    up: { ...both, part: "first_half" },
    down: { name: `${expert}.down_proj.weight` },
  };
}
