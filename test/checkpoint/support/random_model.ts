import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mapWeights, nameOf } from "../../../lib/checkpoint/locate/locate_layer.js";
import { Model } from "../../../lib/checkpoint/model.js";
import { type SafetensorsInput, writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { encodeHalves } from "../../../lib/core/tensors/half_arrays.js";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import { stackedShape, storedShape } from "../../../lib/layer/weights/weight_layout.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { memoized } from "../../support/memoized.js";

/** Shapes of tensors by name. */
type Shapes = Readonly<Record<string, readonly number[]>>;

export interface RandomModel {
  /** Which of the family's storage schemes; default the first. */
  readonly storage?: number;
  /** Stands before the names of the tensors. */
  readonly prefix?: string;
  /** Other tensors of each layer; default an attention matrix. */
  readonly layer?: Shapes;
  /** Other tensors of the model. */
  readonly model?: Shapes;
}

/** The values of a tensor: the same in every model that has one of this name and shape. */
const randomHalves = memoized((name: string, ...shape: number[]) =>
  encodeHalves(new Random(name).normals(shapeSize(shape), (shape.at(-1) as number) ** -0.5), "bf16"),
);

/** Writes a model directory of a family: `config`, and random bfloat16 weights for all layers with experts. */
export async function writeRandomModel(
  path: string,
  config: object,
  { storage = 0, prefix = "", layer: others = { "self_attn.q_proj.weight": [4, 8] }, model: whole = {} }: RandomModel,
): Promise<void> {
  mkdirSync(path);
  writeFileSync(join(path, "config.json"), JSON.stringify(config));
  const model = await Model.read(path);
  const tensors = new Map<string, SafetensorsInput>();
  const add = (name: string, shape: readonly number[]) => {
    if (tensors.has(name)) return;
    tensors.set(name, { dtype: "BF16", shape, data: randomHalves(name, ...shape) });
  };
  for (const layer of model.layersWithExperts()) {
    const { family, fields } = model;
    const own = family.prefix?.(fields, layer) ?? `model.layers.${layer}`;
    const scheme = family.tensors(`${prefix}${own}`, fields, layer)[storage];
    if (scheme === undefined) throw new Error(`${family.modelType} has no storage ${storage}`);
    const layerConfig = model.config(layer);
    await mapWeights({ config: layerConfig, tensors: scheme }, async ({ weight, shape, expert }) => {
      const { stacked } = weight;
      const one = storedShape(shape, weight);
      add(nameOf(weight, expert), stacked === undefined ? one : stackedShape(one, stacked, layerConfig.numExperts));
    });
    for (const [name, shape] of Object.entries(others)) add(`${prefix}${own}.${name}`, shape);
  }
  for (const [name, shape] of Object.entries(whole)) add(name, shape);
  await writeSafetensors(join(path, "model.safetensors"), tensors);
}
