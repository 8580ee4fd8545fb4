import { describe } from "../core/errors.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { badCheckpoint } from "./bad_checkpoint.js";
import { ConfigFields } from "./config_fields.js";
import type { Family } from "./families/family.js";
import { refuseUnreadLimits } from "./families/limits.js";
import { families } from "./families/registry.js";
import { unsupported } from "./families/unsupported.js";
import { checkLayer, layersWithExperts } from "./layers_with_experts.js";
import { type LayerTensors, type NamedWeight, nameOf } from "./locate/locate_layer.js";
import { mlxNames } from "./mlx_names.js";
import { explainPath } from "./remedies.js";
import type { JsonObject } from "./safetensors/strict_json.js";
import { Quantization } from "./schemes/quantization.js";
import { hasMatrix } from "./schemes/stored_matrix.js";
import { unknownFamily } from "./unknown_family.js";

/** What a model directory's config.json says: `model_type` names the family, which knows what the fields mean. */
export class Model {
  readonly family: Family;
  /** The fields of the language model, which may be part of a multimodal one. */
  readonly fields: ConfigFields;
  /** Number of layers, with and without experts; they are numbered 0 .. layerCount - 1. */
  readonly layerCount: number;
  /** How the weights may be quantised. */
  readonly quantization: Quantization;
  readonly #whole: ConfigFields;

  /**
   * @param whole config.json.
   * @throws BAD_CHECKPOINT if its `model_type` is unknown.
   */
  constructor(whole: ConfigFields, quantization: Quantization) {
    const familyOf = (text: ConfigFields) =>
      familyOfClass(text) ?? familyOfType(text.value("model_type")) ?? familyOfType(textType(whole));
    const text = whole.languageModels.find((section) => familyOf(section) !== undefined);
    this.#whole = whole;
    this.quantization = quantization;
    this.family = (text && familyOf(text)) ?? findFamily(whole);
    this.fields = text ?? whole;
    this.layerCount = this.family.layerCount(this.fields);
  }

  /** @throws BAD_CHECKPOINT if config.json is missing or malformed, or its `model_type` is unknown. */
  static async read(directory: string, signal?: AbortSignal): Promise<Model> {
    try {
      const whole = await ConfigFields.read(directory, signal);
      return new Model(whole, await Quantization.read(directory, whole, { signal }));
    } catch (error) {
      throw await explainPath(directory, error);
    }
  }

  /** The whole of config.json. */
  get all(): JsonObject {
    return this.#whole.all;
  }

  /** The dtype that config.json says the weights have. */
  get dtype(): string | undefined {
    const names = ["torch_dtype", "dtype"];
    const values = [this.fields, this.#whole].flatMap((fields) => names.map((name) => fields.value(name)));
    return values.find((value) => typeof value === "string");
  }

  /** Checks and returns a layer number. @throws INVALID_ARGUMENT if the model lacks the layer or it is dense. */
  checkLayer(layer: unknown, name?: string): number {
    return checkLayer(this, layer, name, this.family.numbering);
  }

  layersWithExperts(): number[] {
    return layersWithExperts(this);
  }

  hasExperts(layer: number): boolean {
    return this.family.hasExperts?.(this.fields, layer) ?? true;
  }

  /** The sizes and formula of a layer with experts. */
  config(layer: number): MoeLayerConfig {
    const fields = new ConfigFields(this.fields.path, this.fields.all);
    const config = this.family.config(fields, layer);
    refuseUnreadLimits(fields, layer);
    return config;
  }

  /** The names of a layer's tensors in this checkpoint; if none match, the usual names, for the errors to mention. */
  tensors(layer: number, has: (name: string) => boolean): LayerTensors {
    return this.storages(layer, has).used;
  }

  /** As {@link tensors}, and the names that the layer's tensors would have in the family's other storage schemes. */
  storages(
    layer: number,
    has: (name: string) => boolean,
  ): { readonly used: LayerTensors; readonly others: readonly LayerTensors[] } {
    const { family, fields } = this;
    const prefix = family.prefix?.(fields, layer) ?? `model.layers.${layer}`;
    const surrounded = surroundings.map((surround) => {
      const own = family.tensors(surround(prefix), fields, layer);
      return [...own, ...own.flatMap(mlxNames)];
    });
    const storages = surrounded.flat();
    const hasAll = (weights: readonly (NamedWeight | undefined)[]) =>
      weights.every((weight) => weight === undefined || hasMatrix(has, nameOf(weight, 0)));
    const used =
      storages.find(({ router, selectionBias, experts, shared }) =>
        hasAll([router, selectionBias, experts.up, experts.down, shared?.up]),
      ) ??
      storages.find(({ router, selectionBias, experts }) =>
        hasAll([router, selectionBias, experts.up, experts.down]),
      ) ??
      storages.find(({ router, experts }) => hasAll([router, experts.up, experts.down])) ??
      storages.find(({ router }) => hasAll([router])) ??
      (storages[0] as LayerTensors);
    const schemes = surrounded.find((own) => own.includes(used)) as readonly LayerTensors[];
    return { used, others: schemes.filter((one) => one !== used) };
  }
}

/** What the text_config of a multimodal model is if it does not say, or says what no class of Transformers does. */
const textTypes: ReadonlyMap<unknown, string> = new Map([
  ["deepseek_v41", "deepseek_v41_text"],
  ["diffusion_gemma", "diffusion_gemma_text"],
  ["dots3_note", "dots3_note_text"],
  ["ernie4_5_vl_moe", "ernie4_5_vl_moe_text"],
  ["gemma4", "gemma4_text"],
  ["glm5_next", "glm5_next_text"],
  ["inkling_mm_model", "inkling_text"],
  ["llama4", "llama4_text"],
  ["minimax_m3_vl", "minimax_m3_vl_text"],
  ["qwen3_8_flash_next", "qwen3_8_flash_next_text"],
  ["qwen4_exp", "qwen4_exp_text"],
  ["step3_vl", "step3_text"],
  ["step3p5v", "step4"],
  ["step3p7", "step3p5"],
]);

function textType(whole: ConfigFields): unknown {
  return textTypes.get(whole.value("model_type"));
}

function familyOfType(modelType: unknown): Family | undefined {
  return families.get(modelType as string);
}

/** The family of a class in `architectures`. */
function familyOfClass(fields: ConfigFields): Family | undefined {
  const architectures = fields.value("architectures");
  if (!Array.isArray(architectures)) return undefined;
  return [...families.values()].find(({ architecture }) => architecture && architectures.includes(architecture));
}

/** Finds the family by a class in `architectures`, else by `model_type`, or without that by the fields' names. */
function findFamily(fields: ConfigFields): Family {
  const recognized = [...families.values()].find((family) => family.recognizes?.(fields));
  if (recognized !== undefined && !fields.has("model_type")) return recognized;
  const flat = fields.languageModels.length === 0 ? familyOfType(textType(fields)) : undefined;
  const found = familyOfClass(fields) ?? familyOfType(fields.value("model_type")) ?? flat;
  if (found === undefined) throw noFamily(fields);
  return found;
}

/** The error for a family that is not known, or known and not supported. */
function noFamily(fields: ConfigFields): Error {
  for (const section of [...fields.languageModels, fields]) {
    const modelType = section.value("model_type");
    const reason = unsupported.get(modelType);
    if (reason === undefined) continue;
    return badCheckpoint(section.path, `model_type: ${describe(modelType)} is not supported, as ${reason}`);
  }
  const ways = ["MoeLayer.load(path, { config, tensors })", "registerFamily(family)"];
  const known = [...families.keys()];
  return badCheckpoint(fields.path, unknownFamily("model_type", fields.value("model_type"), known, ways));
}

/** How checkpoints of bare base models and of multimodal models change the prefix of a layer's names. */
const surroundings: readonly ((prefix: string) => string)[] = [
  (prefix) => prefix,
  (prefix) => prefix.replace(/^(model|transformer)\./, ""),
  (prefix) => prefix.replace(/^model\./, "language_model."),
  (prefix) => `language_model.${prefix}`,
  (prefix) => `llm.${prefix}`, // of Ovis
  (prefix) => `thinker.${prefix}`,
  (prefix) => `thinker.language_model.${prefix}`, // of MLX
  (prefix) => prefix.replace(/^model\./, "model.language_model."),
];
