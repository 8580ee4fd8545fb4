import type { ConfigFields } from "../config_fields.js";
import { ernieConfig, sharedCount } from "./ernie4_5_moe.js";
import {
  type Family,
  gatedExpert,
  isListedSparse,
  layerCount,
  sharedExpert,
  sharedTensors,
  stackedOrSingle,
} from "./family.js";

const blocks = layerCount(28);

/** Whose tokens a layer is for, as config.json and files list them. */
const kinds = ["text", "vision"] as const;

/**
 * ERNIE 4.5 VL: Ernie4_5_VLMoeTextConfig and Ernie4_5_VLMoeMoeBlock of Transformers. Tokens of text and those of images have
 * routers and experts of their own, each as ERNIE 4.5 has them, and a shared expert in common: so a block is two layers.
 */
function ernie45Vl(modelType: string, unsaidShared: number): Family {
  return {
    modelType,
    layerCount: (fields) => kinds.length * blocks(fields),
    numbering: "for tokens of text, then for those of images",
    hasExperts: (fields, layer) => {
      const { kind, block } = place(fields, layer);
      const listed = isListedSparse(fields, block);
      if (listed !== undefined) return listed;
      const first = fields.integerOfLayer("moe_layer_start_index", 1, kind, { minimum: 0 });
      const end = fields.integerOfLayer("moe_layer_end_index", -1, kind, { minimum: -1 });
      return (
        block >= first && (end === -1 || block <= end) && (block + 1) % fields.integer("moe_layer_interval", 1) === 0
      );
    },
    config: (fields, layer) => {
      const { kind } = place(fields, layer);
      const [text, own] = [0, kind].map((index) =>
        fields.integerOfLayer("moe_intermediate_size", widths[index], index),
      );
      fields.require("use_bias", false);
      const shared = sharedExpert(sharedCount(fields, unsaidShared), text as number);
      return ernieConfig(fields, own as number, expertCount(fields, kind), shared);
    },
    prefix: (fields, layer) => `model.layers.${place(fields, layer).block}`,
    tensors: (prefix, fields, layer) => {
      const { kind } = place(fields, layer);
      const block = `${prefix}.mlp`;
      const shared = sharedTensors(block, sharedCount(fields, unsaidShared));
      const number = kind === 0 ? "{e}" : `{e+${expertCount(fields, 0)}}`;
      const own = `${block}.${kinds[kind]}_moe`;
      const mlx = kind === 0 ? "" : "_1";
      const stack = (name: string) =>
        ({ name: `${block}.switch_mlp${mlx}.${name}_proj.weight`, stacked: "dim0" }) as const;
      return [
        {
          router: { name: `${block}.gate.weight${kind === 0 ? "" : "_1"}`, orient: "in_out" },
          selectionBias: {
            name: `${block}.moe_statics.e_score_correction_bias`,
            part: kind === 0 ? "first_half" : "second_half",
          },
          experts: gatedExpert(`${block}.experts.${number}`),
          ...shared,
        },
        ...stackedOrSingle(
          {
            router: { name: `${own}.gate.weight` },
            selectionBias: { name: `${own}.gate.moe_statics.e_score_correction_bias` },
            ...shared,
          },
          `${own}.experts`,
        ),
        {
          // As MLX has them.
          router: { name: `${block}.gate${mlx}.weight` },
          selectionBias: { name: `${block}.e_score_correction_bias${mlx}` },
          experts: { gate: stack("gate"), up: stack("up"), down: stack("down") },
          ...shared,
        },
      ];
    },
  };
}

/** Transformers' class, and what published files call it, of which the larger model has no shared expert and no field for it. */
export const ernie45VlMoe = ernie45Vl("ernie4_5_vl_moe_text", 2);
export const ernie45MoeVl = ernie45Vl("ernie4_5_moe_vl", 0);

/** Widths of experts where files do not say. */
const widths = [1536, 512];

function place(fields: ConfigFields, layer: number): { readonly kind: number; readonly block: number } {
  const count = blocks(fields);
  return { kind: Math.floor(layer / count), block: layer % count };
}

/** Files list a number for each kind, classes of Transformers have one for both. */
function expertCount(fields: ConfigFields, kind: number): number {
  return fields.integerOfLayer("moe_num_experts", 64, kind);
}
