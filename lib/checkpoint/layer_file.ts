import { activations, isGated, scorings } from "../backend.js";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { MoeError } from "../errors.js";
import type { MoeLayerConfig } from "../layer/config.js";
import type { MoeLayer } from "../layer/layer.js";
import { type Shape, sameShape, shapeText } from "../shape.js";
import { badCheckpoint } from "./bad_checkpoint.js";
import { ConfigFields } from "./config_fields.js";
import type { SafetensorsArrayOf, SafetensorsDType } from "./safetensors_dtype.js";
import { SafetensorsFile } from "./safetensors_file.js";
import { tensorPlace } from "./safetensors_header.js";
import { isRecord, type JsonObject, parseJsonObject } from "./strict_json.js";
import { type LayerTensors, loadWeights, type WeightOptions } from "./weights.js";

/** What a layer file says its layer computes; the float64 results are not rounded. */
export interface ExpectedResults {
  /** [T, k] */
  readonly ids: Int32Array;
  /** [T, k] */
  readonly weights: Float32Array;
  readonly weightsF64: Float64Array;
  /** [T, H] */
  readonly output: Float32Array;
  readonly outputF64: Float64Array;
}

/** One MoE layer in a safetensors file of its own: formula, weights, input and, where the file has them, results. */
export interface LayerFile {
  readonly path: string;
  readonly family: string;
  readonly caseName: string;
  readonly config: MoeLayerConfig;
  /** T */
  readonly numTokens: number;
  /** [T, H] */
  readonly x: Float32Array;
  readonly expected: ExpectedResults | undefined;
  /** The layer on a device; `dtype` is the storage dtype of its weights, default the file's. */
  load(device: Device, dtype?: FloatDType, options?: Omit<WeightOptions, "dtype">): Promise<MoeLayer>;
}

/** The roles of a file's `tensors`, and what they are called here. */
const roles: ReadonlyMap<string, keyof LayerTensors> = new Map([
  ["router", "router"],
  ["expert_gate", "gate"],
  ["expert_up", "up"],
  ["expert_down", "down"],
]);

/** The fields of a file's `config` that are sizes or have a counterpart of any value in {@link MoeLayerConfig}. */
const plainFields: readonly string[] = [
  "hidden_size",
  "intermediate_size",
  "num_experts",
  "top_k",
  "num_tokens",
  "norm_topk_prob",
  "routed_scaling_factor",
];

/** Which values of the other fields a layer can compute. Any field that is not here changes the formula. */
const formulaFields: Readonly<Record<string, readonly unknown[]>> = {
  activation: activations,
  scoring: scorings,
  norm_kind: ["sum"],
  weight_applied_to: ["output"],
  shared_expert: [null],
};

/**
 * Reads a layer file: safetensors whose metadata has `family`, `case`, and as JSON `config` (the formula) and `tensors`
 * (for every role, such as `expert_up`, the `name` and `orient` of its tensors), with the input `x` [T, H] and the
 * results `topk_ids`, `topk_weights` and `output`, of which the last two also in F64 as `topk_weights_f64` and so on.
 * @throws BAD_CHECKPOINT naming what is missing or wrong; UNSUPPORTED_OPERATION for a formula or a storage of weights
 * that layers do not know.
 */
export async function openLayerFile(path: string): Promise<LayerFile> {
  await using file = await SafetensorsFile.open(path);
  const family = metadataText(file, "family");
  const caseName = metadataText(file, "case");
  const fields = metadataJson(file, "config");
  const config = readConfig(path, fields);
  const tensors = readTensors(path, metadataJson(file, "tensors"), config);
  const numTokens = new ConfigFields(`${path}: config`, fields).integer("num_tokens", undefined, { minimum: 0 });
  const x = await readAs(file, "x", "F32", [numTokens, config.hiddenSize]);
  const expected = file.tensors.has("output") ? await readExpected(file, numTokens, config) : undefined;
  const load: LayerFile["load"] = async (device, dtype, options = {}) => {
    await using opened = await SafetensorsFile.open(path);
    const source = { configPath: path, config, tensors, fileOf: async () => opened };
    return await loadWeights(source, device, dtype === undefined ? options : { ...options, dtype });
  };
  return { path, family, caseName, config, numTokens, x, expected, load };
}

function readConfig(path: string, json: JsonObject): MoeLayerConfig {
  for (const [field, value] of Object.entries(json)) {
    const supported = plainFields.includes(field) || formulaFields[field]?.includes(value);
    if (!supported) {
      const expected = formulaFields[field]?.map((choice) => JSON.stringify(choice)).join(", ") ?? "no such field";
      throw unsupported(path, `config.${field}: expected ${expected}, got ${JSON.stringify(value)}`);
    }
  }
  const fields = new ConfigFields(`${path}: config`, json);
  return {
    hiddenSize: fields.integer("hidden_size", undefined),
    intermediateSize: fields.integer("intermediate_size", undefined),
    numExperts: fields.integer("num_experts", undefined),
    topK: fields.integer("top_k", undefined),
    activation: fields.choice("activation", undefined, choices(activations)),
    scoring: fields.choice("scoring", undefined, choices(scorings)),
    normalize: fields.boolean("norm_topk_prob", false),
    scale: fields.number("routed_scaling_factor", 1),
  };
}

function choices<T extends string>(names: readonly T[]): ReadonlyMap<string, T> {
  return new Map(names.map((name) => [name, name]));
}

function readTensors(path: string, json: JsonObject, config: MoeLayerConfig): LayerTensors {
  const tensors: Partial<Record<keyof LayerTensors, string>> = {};
  for (const [role, location] of Object.entries(json)) {
    const place = `tensors.${role}`;
    const known = roles.get(role);
    if (known === undefined) throw unsupported(path, `${place}: expected only ${[...roles.keys()].join(", ")}`);
    const { name, orient, ...storage } = isRecord(location) ? location : {};
    if (typeof name !== "string")
      throw badCheckpoint(path, `${place}: expected a name, got ${JSON.stringify(location)}`);
    if (orient !== "out_in" || Object.keys(storage).length > 0) {
      throw unsupported(path, `${place}: expected orient "out_in" and nothing else, got ${JSON.stringify(location)}`);
    }
    tensors[known] = name;
  }
  for (const [role, known] of roles) {
    const needed = known !== "gate" || isGated(config.activation ?? "swiglu");
    if (needed !== (tensors[known] !== undefined)) {
      throw badCheckpoint(path, `tensors.${role}: expected ${needed ? "a name" : "none"} for ${config.activation}`);
    }
  }
  return tensors as LayerTensors;
}

async function readExpected(
  file: SafetensorsFile,
  numTokens: number,
  config: MoeLayerConfig,
): Promise<ExpectedResults> {
  const choice = [numTokens, config.topK];
  const token = [numTokens, config.hiddenSize];
  return {
    ids: await readAs(file, "topk_ids", "I32", choice),
    weights: await readAs(file, "topk_weights", "F32", choice),
    weightsF64: await readAs(file, "topk_weights_f64", "F64", choice),
    output: await readAs(file, "output", "F32", token),
    outputF64: await readAs(file, "output_f64", "F64", token),
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

function metadataText(file: SafetensorsFile, key: string): string {
  const value = Object.hasOwn(file.metadata, key) ? file.metadata[key] : undefined;
  if (value === undefined)
    throw badCheckpoint(file.path, `__metadata__.${key}: expected a string, got none: no layer file`);
  return value;
}

function metadataJson(file: SafetensorsFile, key: string): JsonObject {
  return parseJsonObject(`${file.path}: __metadata__.${key}`, Buffer.from(metadataText(file, key)));
}

function unsupported(path: string, problem: string): MoeError {
  return new MoeError("UNSUPPORTED_OPERATION", `${path}: ${problem}; layers cannot compute anything else`);
}
