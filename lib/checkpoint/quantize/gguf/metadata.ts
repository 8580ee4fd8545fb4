import { isDeepStrictEqual } from "node:util";
import { MoeError } from "../../../core/errors.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import { ConfigFields } from "../../config_fields.js";
import { architectureOf } from "../../gguf/architectures.js";
import { GgufFields } from "../../gguf/fields.js";
import type { GgufType } from "../../gguf/types.js";
import type { MetadataInput } from "../../gguf/write/header.js";
import type { Model } from "../../model.js";
import { architectureKeys, type WrittenArchitecture } from "./architectures.js";

/** LLAMA_FTYPE_MOSTLY_... of llama.cpp. */
const fileTypes: Partial<Record<GgufType, number>> = {
  ...{ Q4_0: 2, Q4_1: 3, Q8_0: 7, Q5_0: 8, Q5_1: 9, Q2_K: 10, Q3_K: 11, Q4_K: 14, Q5_K: 16, Q6_K: 18 },
  ...{ IQ4_NL: 25, IQ4_XS: 30, MXFP4: 38 },
};

/**
 * What a file says of the model, by key.
 * @throws BAD_CHECKPOINT for a number that metadata cannot hold.
 */
export function metadataOf(
  model: Model,
  architecture: WrittenArchitecture,
  type: GgufType,
  name: string,
  tokenizer: ReadonlyMap<string, MetadataInput>,
): ReadonlyMap<string, MetadataInput> {
  const { fields, layerCount } = model;
  const { num_experts_per_tok: used, ...counts } = expertCounts(fields);
  const [first] = model.layersWithExperts() as [number];
  const keys = {
    ...architectureKeys(architecture, fields, layerCount, model.config(first)),
    ...counts,
    expert_used_count: used,
    ...(architecture.dense && { leading_dense_block_count: first }),
  };
  for (const [key, value] of Object.entries(keys)) checkValue(fields, key, value);
  const fileType = fileTypes[type];
  return new Map<string, MetadataInput>([
    ["general.architecture", architecture.name],
    ["general.type", "model"],
    ["general.name", name],
    ...(fileType === undefined ? [] : ([["general.file_type", fileType]] as const)),
    ["general.quantization_version", 2],
    ...tokenizer,
    ...Object.entries(keys).map(([key, value]) => [`${architecture.name}.${key}`, value] as const),
  ]);
}

function isFloat(value: MetadataInput): value is { readonly f32: number } {
  return typeof value === "object" && "f32" in value;
}

/** Metadata have integers and floats of 32 bits. */
function checkValue({ path }: ConfigFields, key: string, value: MetadataInput): void {
  if (typeof value === "number" && value >= 2 ** 32) {
    throw badCheckpoint(path, `${key} in GGUF: expected an integer below 2^32, got ${value}`);
  }
  if (isFloat(value) && !Number.isFinite(Math.fround(value.f32))) {
    throw badCheckpoint(path, `${key} in GGUF: expected a float32, got ${value.f32}`);
  }
}

function expertCounts(fields: ConfigFields) {
  const alias = ["num_local_experts", "n_routed_experts"].find((name) => fields.has(name)) ?? "num_experts";
  return {
    expert_count: fields.integer(alias, undefined),
    num_experts_per_tok: fields.integer("num_experts_per_tok", undefined, { alias: "experts_per_token" }),
  };
}

/**
 * Readers take a layer's formula from the architecture's name and the metadata: it has to be the model's.
 * @throws UNSUPPORTED_OPERATION otherwise.
 */
export function checkFormula(
  model: Model,
  { name }: WrittenArchitecture,
  metadata: ReadonlyMap<string, MetadataInput>,
  layer: number,
): void {
  const values = new Map(
    [...metadata].map(([key, value]) => [key, isFloat(value) ? Math.fround(value.f32) : value] as const),
  );
  const read = architectureOf(name, name).read(new GgufFields(name, name, values), layer, {
    hasBias: false,
    tableRows: undefined,
    hasLatentNorm: false,
  });
  const [stated, wanted] = [read.family.config(new ConfigFields(name, read.fields), layer), model.config(layer)];
  const differing = [...new Set([...Object.keys(stated), ...Object.keys(wanted)])].filter(
    (key) => !means(stated[key as keyof typeof stated], wanted[key as keyof typeof wanted]),
  );
  if (differing.length === 0) return;
  const [key] = differing as [keyof typeof wanted];
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${model.fields.path}: GGUF files of ${name} imply ${key} ${JSON.stringify(stated[key])}, but this model has ` +
      `${JSON.stringify(wanted[key])}, which GGUF has no metadata for`,
  );
}

/** Whether two values are the same to metadata, whose numbers are float32. */
function means(stated: unknown, wanted: unknown): boolean {
  if (typeof stated === "number" && typeof wanted === "number") return Math.fround(stated) === Math.fround(wanted);
  return isDeepStrictEqual(stated, wanted);
}
