import type { Device } from "../device.js";
import { checkInteger, invalidArgument } from "../errors.js";
import type { MoeLayer } from "../layer/layer.js";
import { badCheckpoint } from "./bad_checkpoint.js";
import { ConfigFields } from "./config_fields.js";
import type { Family } from "./families/family.js";
import { families } from "./families/registry.js";
import type { LayerTensors, NamedWeight } from "./locate.js";
import { ShardedCheckpoint } from "./sharded_checkpoint.js";
import { isRecord } from "./strict_json.js";
import { openWeightCache } from "./weight_cache.js";
import { loadWeights, type WeightOptions } from "./weights.js";

export interface LoadOptions extends WeightOptions {
  /** Number of the decoder layer whose MoE block is loaded. */
  layer: number;
  device: Device;
  /**
   * Keep the packed weights in a file, so that the next load of this layer maps them instead of reading and repacking:
   * `true` for the folder `.moe-kernels` in the model directory, or the path of a folder for the layers of any models.
   * The file is made anew where the checkpoint's files, the configuration, `dtype`, the device's layout or the version of
   * this package are others. Loading works without it too: {@link MoeLayer.cacheStatus} tells what became of it. While a
   * layer is in use its file may be deleted or replaced, but not written to or cut off in place.
   */
  cache?: boolean | string;
}

/**
 * Loads the MoE block of one decoder layer of a Hugging Face model directory: `model_type` in config.json names the
 * family, whose file in `families/` says what the fields mean and how the tensors are named.
 * @throws INVALID_ARGUMENT for a layer that the model does not have or that is dense; BAD_CHECKPOINT.
 */
export async function loadLayer(directory: string, options: LoadOptions): Promise<MoeLayer> {
  if (typeof directory !== "string") throw invalidArgument("directory", "a path", directory);
  if (!isRecord(options)) throw invalidArgument("options", "an object with layer and device", options);
  const { layer, device } = options;
  const { family, fields } = findFamily(await ConfigFields.read(directory));
  checkLayer(fields, family, layer);
  const config = family.config(fields, layer);
  const cache = await openWeightCache(directory, config, options);
  const mapped = await cache?.load();
  if (mapped !== undefined) return mapped;
  await using checkpoint = await ShardedCheckpoint.open(directory);
  const source = {
    configPath: fields.path,
    config,
    tensors: findTensors(checkpoint, family, fields, layer),
    fileOf: (name: string) => checkpoint.fileOf(name),
  };
  const loaded = await loadWeights(source, device, options);
  await cache?.store(loaded, options.signal);
  return loaded;
}

/** The family of a model, or of the language model within a multimodal one, and the configuration's fields of it. */
function findFamily(fields: ConfigFields): { family: Family; fields: ConfigFields } {
  checkNotQuantized(fields);
  const text = fields.section("text_config");
  const textFamily = families.get(text?.value("model_type") as string);
  if (text && textFamily) return { family: textFamily, fields: text };
  return { family: fields.choice("model_type", undefined, families), fields };
}

function checkNotQuantized(fields: ConfigFields): void {
  const quantization = fields.section("quantization_config");
  if (quantization === undefined) return;
  const method = JSON.stringify(quantization.value("quant_method"));
  throw badCheckpoint(
    quantization.path,
    `quant_method: expected weights in F32, F16 or BF16, got weights quantised by ${method}; convert them first`,
  );
}

function checkLayer(fields: ConfigFields, family: Family, layer: number): void {
  const count = family.layerCount(fields);
  checkInteger("layer", layer, 0, count - 1);
  if (family.hasExperts === undefined || family.hasExperts(fields, layer)) return;
  const sparse = Array.from({ length: count }, (_, index) => index).filter((index) =>
    family.hasExperts?.(fields, index),
  );
  throw invalidArgument("layer", `a layer with experts (${sparse.join(", ") || "this model has none"})`, layer);
}

/** What the prefix of a layer's names becomes in checkpoints of a base model alone and of multimodal models. */
const surroundings: readonly ((prefix: string) => string)[] = [
  (prefix) => prefix,
  (prefix) => prefix.replace(/^(model|transformer)\./, ""),
  (prefix) => `language_model.${prefix}`,
  (prefix) => prefix.replace(/^model\./, "model.language_model."),
];

/** The storage that the checkpoint has; where it has none, the usual one, so that the error names its tensors. */
function findTensors(checkpoint: ShardedCheckpoint, family: Family, fields: ConfigFields, layer: number): LayerTensors {
  const prefix = family.prefix?.(fields, layer) ?? `model.layers.${layer}`;
  const storages = surroundings.flatMap((surround) => family.tensors(surround(prefix), fields, layer));
  const has = ({ name }: NamedWeight) => checkpoint.has(name.replace("{e}", "0"));
  const whole = storages.find(({ router, experts }) => has(router) && has(experts.up) && has(experts.down));
  const begun = whole ?? storages.find(({ router }) => has(router));
  return begun ?? (storages[0] as LayerTensors);
}
