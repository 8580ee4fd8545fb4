import { type Shape, sameShape, shapeSize, shapeText } from "../../core/tensors/shape.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { SafetensorsArrayOf, SafetensorsDType } from "../safetensors/dtype.js";
import { SafetensorsFile } from "../safetensors/file.js";
import { tensorPlace } from "../safetensors/header.js";
import { type JsonObject, parseJsonObject } from "../safetensors/strict_json.js";
import { type LayerFormula, readFormula } from "./layer_file_formula.js";
import { readTensors } from "./layer_file_tensors.js";

/** The routing in the form of {@link MoeLayer.route}: a dropped choice has id -1 and weight 0. */
export interface ExpectedRouting {
  /** [T, k] */
  readonly ids: Int32Array;
  /** [T, k] */
  readonly weights: Float32Array;
  readonly weightsF64: Float64Array;
}

/** The results stored in a layer file; the float64 ones are not rounded. */
export interface ExpectedResults {
  /** Absent for expert choice, which has no k experts per token. */
  readonly routing?: ExpectedRouting;
  /** [T, H] */
  readonly output: Float32Array;
  readonly outputF64: Float64Array;
}

/** One MoE layer in its own safetensors file: formula, weights, input and, optionally, results. */
export interface LayerFile {
  readonly path: string;
  readonly family: string;
  readonly caseName: string;
  readonly config: MoeLayerConfig;
  /** Shape of the input and output: [T, H], or [B, S, H] for sequences. */
  readonly shape: Shape;
  /** The noise [T, E] on the logits, if the results are from training. */
  readonly noise: Float32Array | undefined;
  /** The tokens. */
  readonly x: Float32Array;
  readonly expected: ExpectedResults | undefined;
}

/**
 * Reads a layer file: safetensors whose metadata has `family`, `case`, and as JSON `config` (the formula) and `tensors`
 * (for every role, such as `expert_up`, the `name` and `orient` of its tensor). Its tensors are the weights, the input
 * `x` [T, H], the `noise` [T, E] if the results are from training, and the results `topk_ids`, `topk_weights`, `kept`
 * (1 for choices that were not dropped; only with a limited capacity) and `output`. Routing weights and output are also
 * there in F64, as `topk_weights_f64` and `output_f64`.
 * @throws BAD_CHECKPOINT naming what is missing or wrong; UNSUPPORTED_OPERATION for a formula or weight storage that
 * layers do not support.
 */
export async function openLayerFile(path: string): Promise<LayerFile> {
  await using file = await SafetensorsFile.open(path);
  if (Object.hasOwn(file.metadata, "layer_version")) {
    const problem = "expected a layer file with tokens and results, got a layer that MoeLayer.save wrote";
    throw badCheckpoint(path, `${problem}; MoeLayer.load reads it, and so does moe-kernels run --model`);
  }
  const family = metadataText(file, "family");
  const caseName = metadataText(file, "case");
  const { config, shape, training } = readLayer(file);
  const numTokens = shapeSize(shape.slice(0, -1));
  const x = await readAs(file, "x", "F32", [numTokens, config.hiddenSize]);
  const noise = training ? await readAs(file, "noise", "F32", [numTokens, config.numExperts]) : undefined;
  const expected = file.tensors.has("output") ? await readExpected(file, numTokens, config) : undefined;
  return { path, family, caseName, config, shape, noise, x, expected };
}

/**
 * What a file's layer computes, and which tensors are its weights.
 * @throws BAD_CHECKPOINT, UNSUPPORTED_OPERATION
 */
export function readLayer(file: SafetensorsFile): LayerFormula & { readonly tensors: LayerTensors } {
  const formula = readFormula(file.path, metadataJson(file, "config"));
  return { ...formula, tensors: readTensors(file.path, metadataJson(file, "tensors"), formula.config) };
}

async function readExpected(
  file: SafetensorsFile,
  numTokens: number,
  config: MoeLayerConfig,
): Promise<ExpectedResults> {
  const token = [numTokens, config.hiddenSize];
  return {
    ...(config.expertChoice === undefined && { routing: await readRouting(file, [numTokens, config.topK]) }),
    output: await readAs(file, "output", "F32", token),
    outputF64: await readAs(file, "output_f64", "F64", token),
  };
}

async function readRouting(file: SafetensorsFile, shape: Shape): Promise<ExpectedRouting> {
  const ids = await readAs(file, "topk_ids", "I32", shape);
  const weights = await readAs(file, "topk_weights", "F32", shape);
  const weightsF64 = await readAs(file, "topk_weights_f64", "F64", shape);
  if (!file.tensors.has("kept")) return { ids, weights, weightsF64 };
  const kept = await readAs(file, "kept", "I32", shape);
  return {
    ids: ids.map((id, slot) => (kept[slot] ? id : -1)),
    weights: weights.map((weight, slot) => (kept[slot] ? weight : 0)),
    weightsF64: weightsF64.map((weight, slot) => (kept[slot] ? weight : 0)),
  };
}

async function readAs<D extends SafetensorsDType>(
  file: SafetensorsFile,
  name: string,
  dtype: D,
  shape: Shape,
): Promise<SafetensorsArrayOf<D>> {
  const info = file.info(name);
  if (info.dtype !== dtype || !sameShape(info.shape, shape)) {
    const got = `${info.dtype} ${shapeText(info.shape)}`;
    throw badCheckpoint(tensorPlace(file.path, name), `expected ${dtype} ${shapeText(shape)}, got ${got}`);
  }
  return (await file.read(name)).data as SafetensorsArrayOf<D>;
}

/** A text of a layer file's metadata. @throws BAD_CHECKPOINT */
export function metadataText(file: SafetensorsFile, key: string): string {
  const value = Object.hasOwn(file.metadata, key) ? file.metadata[key] : undefined;
  if (value === undefined)
    throw badCheckpoint(file.path, `__metadata__.${key}: expected a string, got none; this is not a layer file`);
  return value;
}

function metadataJson(file: SafetensorsFile, key: string): JsonObject {
  return parseJsonObject(`${file.path}: __metadata__.${key}`, Buffer.from(metadataText(file, key)));
}
