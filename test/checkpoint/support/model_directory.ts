import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type LayerFile, openLayerFile } from "../../../lib/checkpoint/layer_file/layer_file.js";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { goldenFile } from "../../support/golden.js";

/** A Hugging Face model: the fields of its config.json, and its weights by name. */
export interface ModelFiles {
  config: Record<string, unknown>;
  weights: ReadonlyMap<string, SafetensorsInput>;
  /** What every file of the weights says beside them. */
  metadata?: Readonly<Record<string, string>>;
}

/** A golden layer as part of a model. */
export interface Model extends ModelFiles {
  readonly layerFile: LayerFile;
  weights: Map<string, SafetensorsInput>;
}

export async function goldenModel(name: string): Promise<Model> {
  const path = goldenFile(name);
  const layerFile = await openLayerFile(path);
  const weights = new Map<string, SafetensorsInput>();
  await using file = await SafetensorsFile.open(path);
  for (const tensor of file.tensors.keys()) {
    if (tensor.startsWith("model.")) weights.set(tensor, await file.read(tensor));
  }
  return { layerFile, config: huggingFaceConfig(layerFile), weights };
}

function huggingFaceConfig({ family, config }: LayerFile): Record<string, unknown> {
  return {
    model_type: family,
    num_hidden_layers: 1,
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    [family === "qwen3_moe" ? "moe_intermediate_size" : "intermediate_size"]: config.intermediateSize,
    [family === "mixtral" ? "num_local_experts" : "num_experts"]: config.numExperts,
    num_experts_per_tok: config.topK,
    ...(family !== "mixtral" && { norm_topk_prob: config.normalize }),
  };
}

/** Writes a model as a directory with one weights file, or with `shards` files and an index. */
export async function writeModel(
  directory: string,
  { config, weights, metadata = {} }: ModelFiles,
  shards = 1,
): Promise<void> {
  writeFileSync(join(directory, "config.json"), JSON.stringify(config));
  if (shards === 1) return await writeSafetensors(join(directory, "model.safetensors"), weights, { metadata });
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const name = `model-${shard + 1}-of-${shards}.safetensors`;
    const part = [...weights].filter((_, index) => index % shards === shard);
    await writeSafetensors(join(directory, name), new Map(part), { metadata });
    for (const [tensor] of part) weightMap[tensor] = name;
  }
  writeFileSync(join(directory, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
}
