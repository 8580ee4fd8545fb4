import type { Device } from "../device.js";
import { checkInteger, invalidArgument } from "../errors.js";
import type { MoeLayer } from "../layer/layer.js";
import { ConfigFields } from "./config_fields.js";
import type { Family } from "./families/family.js";
import { families } from "./families/registry.js";
import { ShardedCheckpoint } from "./sharded_checkpoint.js";
import { isRecord } from "./strict_json.js";
import { openWeightCache } from "./weight_cache.js";
import { type LayerTensors, loadWeights, type WeightOptions } from "./weights.js";

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

/** Far above any model, so that a broken config.json cannot make an error list without end. */
const maximumLayers = 100_000;

/**
 * Loads the MoE block of one decoder layer of a Hugging Face model directory: `model_type` in config.json names the
 * family, whose file in `families/` says what the fields mean and how the tensors are named.
 * @throws INVALID_ARGUMENT for a layer that the model does not have or that is dense; BAD_CHECKPOINT.
 */
export async function loadLayer(directory: string, options: LoadOptions): Promise<MoeLayer> {
  if (typeof directory !== "string") throw invalidArgument("directory", "a path", directory);
  if (!isRecord(options)) throw invalidArgument("options", "an object with layer and device", options);
  const { layer, device } = options;
  const fields = await ConfigFields.read(directory);
  const family = fields.choice("model_type", undefined, families);
  checkLayer(fields, family, layer);
  const config = family.config(fields);
  const cache = await openWeightCache(directory, config, options);
  const mapped = await cache?.load();
  if (mapped !== undefined) return mapped;
  await using checkpoint = await ShardedCheckpoint.open(directory);
  const source = {
    configPath: fields.path,
    config,
    tensors: findTensors(checkpoint, family, layer),
    fileOf: (name: string) => checkpoint.fileOf(name),
  };
  const loaded = await loadWeights(source, device, options);
  await cache?.store(loaded, options.signal);
  return loaded;
}

function checkLayer(fields: ConfigFields, family: Family, layer: number): void {
  const count = fields.integer("num_hidden_layers", family.defaultLayers, { maximum: maximumLayers });
  checkInteger("layer", layer, 0, count - 1);
  if (family.hasExperts === undefined || family.hasExperts(fields, layer)) return;
  const sparse = Array.from({ length: count }, (_, index) => index).filter((index) =>
    family.hasExperts?.(fields, index),
  );
  throw invalidArgument("layer", `a layer with experts (${sparse.join(", ") || "this model has none"})`, layer);
}

/** A checkpoint saved from the base model alone lacks the prefix `model.` of a whole one. */
function findTensors(checkpoint: ShardedCheckpoint, family: Family, layer: number): LayerTensors {
  const whole = family.tensors(`model.layers.${layer}`);
  const base = family.tensors(`layers.${layer}`);
  return checkpoint.has(base.router) ? base : whole;
}
