import { badCheckpoint, checkedAt } from "../checkpoint/bad_checkpoint.js";
import type { LayerTensors } from "../checkpoint/locate.js";
import { columnsInWords } from "../checkpoint/schemes/checkpoint_tokens.js";
import { inspectStorage, type LayerStorage, type StoredRole } from "../checkpoint/storage.js";
import { dtypes, type FloatDType } from "../core/dtype.js";
import { isMoeError } from "../core/errors.js";
import { findFormat } from "../core/weight_formats.js";
import { describeLayer, type MoeLayerConfig, type MoeLayerDescription } from "../layer/description/config.js";
import { type ExpectedWork, expectedWork, expertSize, layerParameters, totalParameters } from "../layer/work.js";
import { type InspectedModel, openInspected } from "./inspected_model.js";
import type { LayerDetails } from "./layer_in_words.js";

/** A model directory and its MoE layers. */
export interface ModelInspection {
  readonly directory: string;
  /** `model_type` of config.json. */
  readonly family: string;
  readonly layerCount: number;
  readonly layersWithExperts: readonly number[];
  /** The quantisation method; null if config.json or the files show that the weights are floats. */
  readonly quantization: string | null;
  /** What its configuration rounds the experts' inputs to, in words; null if that is nothing, or weights are floats. */
  readonly tokens: string | null;
  /** Whether the directory has weights, not only config.json. */
  readonly hasWeights: boolean;
  /** The layers, grouped by equal configuration. */
  readonly groups: readonly LayerGroup[];
}

export interface LayerGroup {
  readonly layers: readonly number[];
  readonly config: MoeLayerConfig;
  readonly description: MoeLayerDescription;
  readonly details: LayerDetails;
  /** Without biases; `active` are those that one token uses. */
  readonly parameters: { readonly expert: number; readonly layer: number; readonly active: number };
  /** Bytes in the dtype of the files or, without files, of config.json; null if unknown. */
  readonly stored: Memory | null;
  readonly f32: Memory;
  readonly bf16: Memory;
  /** Dtype of weights and tokens in `batches`. */
  readonly batchDType: FloatDType;
  readonly batches: readonly ExpectedWork[];
  /** Null if there are no weights. */
  readonly storage: GroupStorage | null;
}

export interface Memory {
  readonly dtype: string;
  readonly expertBytes: number;
  readonly layerBytes: number;
  readonly allBytes: number;
}

/** The storage of all layers of a group; `roles` are those of the first layer, with the formats of all. */
export interface GroupStorage {
  readonly roles: readonly StoredRole[];
  readonly tensorCount: number;
  readonly missing: readonly string[];
  readonly problems: readonly string[];
}

export interface InspectionOptions {
  /** The only layer to inspect; default all layers with experts. */
  readonly layer: number | undefined;
  /** Numbers of tokens to count the work for. */
  readonly tokens: readonly number[];
}

/**
 * Inspects a Hugging Face model directory: config.json, and the headers of its safetensors files if there are any; or a
 * GGUF file.
 * @throws BAD_CHECKPOINT, also for a model without MoE layers; INVALID_ARGUMENT for a layer without experts.
 */
export async function inspectModel(directory: string, options: InspectionOptions): Promise<ModelInspection> {
  await using model = await openInspected(directory);
  const layersWithExperts = model.layersWithExperts();
  if (layersWithExperts.length === 0) {
    throw badCheckpoint(model.path, `expected layers with experts, got ${model.layerCount} dense layers`);
  }
  if (options.layer !== undefined) model.checkLayer(options.layer);
  const layers = options.layer === undefined ? layersWithExperts : [options.layer];
  const groups: LayerGroup[] = [];
  const members = equalLayers(model, layers);
  checkExpertCount(model, members.flat());
  for (const equal of members) {
    groups.push(await inspectGroup(model, equal, options.tokens));
  }
  const quantization = groups.every(hasFloats) ? null : (model.quantization ?? quantizedBy(groups));
  return {
    directory,
    family: model.family(layersWithExperts[0] as number),
    layerCount: model.layerCount,
    layersWithExperts,
    quantization,
    tokens: quantization === null ? null : tokensInWords(model),
    hasWeights: model.hasWeights,
    groups,
  };
}

function tokensInWords(model: InspectedModel): string | null {
  try {
    const scheme = model.tokens();
    return scheme === undefined ? null : `${scheme.format}, with a scale for ${columnsInWords(scheme.columns)}`;
  } catch (error) {
    if (isMoeError(error, "UNSUPPORTED_OPERATION")) return error.message;
    throw error;
  }
}

/** Whether all weights are present as floats. */
function hasFloats({ storage }: LayerGroup): boolean {
  return (
    storage !== null &&
    storage.missing.length === 0 &&
    storage.problems.length === 0 &&
    storage.roles.every(({ formats }) => formats.every((name) => name in dtypes))
  );
}

/** What to say where no configuration names a method. */
function quantizedBy(groups: readonly LayerGroup[]): string | null {
  const roles = groups.flatMap(({ storage }) => storage?.roles ?? []);
  return roles.some(({ formats }) => formats.some((name) => findFormat(name)?.scales)) ? "an unnamed method" : null;
}

interface Member {
  readonly layer: number;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  readonly details: LayerDetails;
}

/** More experts than any model has in all its layers. `inspect` looks for every one of them. */
const maximumExperts = 2 ** 20;

function checkExpertCount({ path }: InspectedModel, members: readonly Member[]): void {
  const count = members.reduce((sum, { config }) => sum + config.numExperts, 0);
  if (count > maximumExperts) {
    throw badCheckpoint(path, `expected at most ${maximumExperts} experts in all layers, got ${count}`);
  }
}

/** The layers, grouped by equal configuration. */
function equalLayers(model: InspectedModel, layers: readonly number[]): readonly (readonly Member[])[] {
  const groups = new Map<string, Member[]>();
  for (const layer of layers) {
    const config = model.config(layer);
    const tensors = model.tensors(layer);
    const details = detailsOf(config, tensors);
    const key = JSON.stringify([config, details]);
    const group = groups.get(key) ?? [];
    groups.set(key, group);
    group.push({ layer, config, tensors, details });
  }
  return [...groups.values()];
}

function detailsOf({ sharedExpert }: MoeLayerConfig, tensors: LayerTensors): LayerDetails {
  const { gateBias, upBias, downBias } = tensors.experts;
  return {
    routerBias: tensors.routerBias !== undefined,
    selectionBias: tensors.selectionBias !== undefined,
    expertBiases: [gateBias, upBias, downBias].some((bias) => bias !== undefined),
    ...(sharedExpert && { sharedWidth: sharedExpert.intermediateSize }),
  };
}

async function inspectGroup(
  model: InspectedModel,
  members: readonly Member[],
  tokens: readonly number[],
): Promise<LayerGroup> {
  const { config, details } = members[0] as Member;
  const { path, hasWeights } = model;
  const describe = (dtype: FloatDType) => checkedAt(path, () => describeLayer(config, dtype));
  const parameters = layerParameters(describe("bf16"), details.sharedWidth);
  const counts = {
    expert: expertSize(parameters.expert),
    layer: totalParameters(parameters, config.numExperts),
    active: totalParameters(parameters, config.topK),
  };
  const memoryAs = (dtype: FloatDType): Memory => {
    const { bytes } = dtypes[dtype];
    const layerBytes = counts.layer * bytes;
    return { dtype, expertBytes: counts.expert * bytes, layerBytes, allBytes: members.length * layerBytes };
  };
  const storages = await inspectStorages(model, members);
  const declared = model.quantization === undefined ? configDTypes.get(model.dtype ?? "") : undefined;
  const stored = hasWeights ? storedMemory(storages, config.numExperts) : declared ? memoryAs(declared) : null;
  const batchDType = [...configDTypes.values()].find((dtype) => dtype === stored?.dtype) ?? "bf16";
  const description = describe(batchDType);
  return {
    layers: members.map(({ layer }) => layer),
    config,
    description,
    details,
    parameters: counts,
    stored,
    f32: memoryAs("f32"),
    bf16: memoryAs("bf16"),
    batchDType,
    batches: tokens.map((count) => expectedWork(description, count, batchDType, parameters)),
    storage: hasWeights ? mergeStorages(storages) : null,
  };
}

/** Dtypes by their names in config.json. */
const configDTypes: ReadonlyMap<string, FloatDType> = new Map([
  ["float32", "f32"],
  ["float16", "f16"],
  ["bfloat16", "bf16"],
]);

async function inspectStorages(model: InspectedModel, members: readonly Member[]): Promise<LayerStorage[]> {
  const storages: LayerStorage[] = [];
  for (const member of members) {
    const files = model.files(member.config, member.tensors);
    if (files !== undefined) storages.push(await inspectStorage(files, member));
  }
  return storages;
}

function mergeStorages(storages: readonly LayerStorage[]): GroupStorage {
  const roles = new Map<string, StoredRole>();
  for (const role of storages.flatMap((storage) => storage.roles)) {
    const known = roles.get(role.role) ?? role;
    roles.set(role.role, { ...known, formats: [...new Set([...known.formats, ...role.formats])] });
  }
  return {
    roles: [...roles.values()],
    tensorCount: storages.reduce((sum, { tensorCount }) => sum + tensorCount, 0),
    missing: storages.flatMap(({ missing }) => missing),
    problems: storages.flatMap(({ problems }) => problems),
  };
}

/** Memory as stored, for the first layer and for all together; null if there are no experts. */
function storedMemory(storages: readonly LayerStorage[], numExperts: number): Memory | null {
  const { bytes, expertBytes } = storages[0] as LayerStorage;
  const experts = mergeStorages(storages).roles.filter(({ role }) => role.startsWith("experts."));
  const names = new Set(experts.flatMap((role) => role.formats));
  if (names.size === 0) return null;
  return {
    dtype: [...names].join(", "),
    expertBytes: expertBytes / numExperts,
    layerBytes: bytes,
    allBytes: storages.reduce((sum, storage) => sum + storage.bytes, 0),
  };
}
