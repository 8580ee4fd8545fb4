import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/formats/weight_format.js";
import { blockTypeOf } from "../gguf/blocks/convert.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { Model } from "../model.js";
import { storedDTypes } from "../safetensors/stored_dtypes.js";
import { asBytes, elements } from "../schemes/bits.js";
import { changeSigns } from "../schemes/mlx.js";
import type { PackedLayout } from "./packed_layout.js";

/**
 * What the classes of mlx-lm call the stacks of experts, by family. Here are those whose other tensors have the names of
 * Transformers, and which mlx-lm takes as they are, or rearranges, whether the experts are stacked or not.
 */
const modules: ReadonlyMap<string, string> = new Map([
  ...[
    ...["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "minimax_m2", "lfm2_moe", "glm4_moe", "glm4_moe_lite"],
    ...["deepseek", "deepseek_v2", "deepseek_v3", "kimi_k2"],
  ].map((family) => [family, "switch_mlp"] as const),
  ["dots1", "experts"],
]);

/** The groups of columns that MLX's kernels have. */
const groups: readonly number[] = [32, 64, 128];

/**
 * Mode `affine` of MLX: `weight` in 32-bit words, `scales`, and `biases`, which are added after scaling, each of all experts in
 * one tensor. Undefined for formats other than integers with minima in groups that MLX has.
 */
export function mlxAffine(format: WeightFormat): PackedLayout | undefined {
  const { bits, scales, offset } = format;
  const dtype = scales && storedDTypes[scales.type as keyof typeof storedDTypes];
  if (offset !== "minimum" || dtype === undefined || blockTypeOf(format) !== undefined) return undefined;
  const { columns: group } = scales as NonNullable<typeof scales>;
  if (!groups.includes(group)) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `format: expected groups of ${groups.join(", ")} columns, as MLX has them, got ${format.name}`,
    );
  }
  const quantization = { group_size: group, bits, mode: "affine" };
  return {
    columnsPerGroup: group,
    narrowerGroups: "; choose smaller groups",
    wholeModel: false,
    pairsGateAndUp: false,
    fileFormat: "mlx",
    storage: stacks,
    module: (target) => target.slice(0, -"weight".length),
    tensors: ({ codes, scales: values, zeros }, rows, columns) => {
      const shape = [rows, columns / group];
      const biases = elements(asBytes(zeros as ArrayBufferView), dtype === "F32" ? 4 : 2);
      changeSigns(biases);
      return {
        weight: { dtype: "U32", shape: [rows, (columns * bits) / 32], data: codes },
        scales: { dtype, shape, data: asBytes(values as ArrayBufferView) },
        biases: { dtype, shape, data: asBytes(biases) },
      };
    },
    configuration: () => ({ quantization, quantization_config: quantization }),
  };
}

/** The storage with a stack of each matrix under MLX's name. */
function stacks(model: Model, used: LayerTensors, others: readonly LayerTensors[]): LayerTensors {
  const { family, fields } = model;
  const module = modules.get(family.modelType);
  // What is around the language model of a multimodal one is of other classes.
  const found =
    module !== undefined && fields.all === model.all
      ? [used, ...others].find(
          ({ experts }) => experts.up.name.endsWith(`.${module}.up_proj.weight`) && experts.up.stacked,
        )
      : undefined;
  if (found !== undefined) return found;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${fields.path}: expected one of the families whose experts are written for MLX (${[...modules.keys()].join(", ")}), ` +
      `got ${module === undefined ? family.modelType : `a part of ${String(model.all.model_type)}`}`,
  );
}
