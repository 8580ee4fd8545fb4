import { isMoeError } from "../../core/errors.js";
import { findFormat } from "../../core/formats/weight_formats.js";
import { groupBy } from "../../core/group_by.js";
import { dtypes, type FloatDType } from "../../core/tensors/dtype.js";
import { describeLayer, type MoeLayerConfig, type MoeLayerDescription } from "../../layer/description/config.js";
import { expertsWithWeights } from "../../layer/description/identity_experts.js";
import { countWeights, type ExpectedWork, expectedWork, expertSize, totalWeights } from "../../layer/work.js";
import { badCheckpoint, checkedAt } from "../bad_checkpoint.js";
import { describeSource } from "../load/describe_source.js";
import { layerSource } from "../load/load_layer.js";
import type { OpenedModel } from "../opened/model_files.js";
import { columnsInWords, declaredTokens } from "../schemes/checkpoint_tokens.js";
import { inspectStorage, type LayerStorage, type StoredRole } from "./inspect_storage.js";
import {
  groupRefused,
  type LayerDetails,
  maximumExperts,
  type ReadLayer,
  type RefusedLayers,
  readLayers,
} from "./read_layers.js";

/** A model and its MoE layers: what `moe-kernels inspect` shows. */
export interface ModelInspection {
  /** The model's directory or file. */
  readonly path: string;
  /** `model_type` of config.json. */
  readonly family: string;
  /** All layers, dense ones too. */
  readonly layerCount: number;
  /** The numbers of those with experts, ascending. */
  readonly layersWithExperts: readonly number[];
  /** The quantisation method; null if config.json or the files show that the weights are floats. */
  readonly quantization: string | null;
  /** What its configuration rounds the experts' inputs to, in words; null if that is nothing, or weights are floats. */
  readonly tokens: string | null;
  /** Whether there are weights, not only a config.json. */
  readonly hasWeights: boolean;
  /** Why it has none, and what to do; empty if there are weights. */
  readonly whyNoWeights: string;
  /** The layers, grouped by equal configuration. */
  readonly groups: readonly LayerGroup[];
  /** Layers with experts that cannot be loaded, because their formula is not supported. */
  readonly refused: readonly RefusedLayers[];
}

/** Layers of equal configuration. */
export interface LayerGroup {
  /** The numbers of the layers, ascending. */
  readonly layers: readonly number[];
  /** What the layers compute, as {@link MoeLayer.create} takes it. */
  readonly config: MoeLayerConfig;
  /** The same with every default filled in, and quantised weights in the first layer's formats. */
  readonly description: MoeLayerDescription;
  /** What the description leaves out. */
  readonly details: LayerDetails;
  /** Numbers of weights of one layer. */
  readonly parameters: ParameterCounts;
  /** Bytes in the dtype of the files or, without files, of config.json; null if unknown. */
  readonly stored: WeightMemory | null;
  /** Bytes if all weights were float32. */
  readonly f32: WeightMemory;
  /** Bytes if all weights were bfloat16. */
  readonly bf16: WeightMemory;
  /** Dtype of the tokens in `batches`, and of weights that are not quantised in the files. */
  readonly batchDType: FloatDType;
  /** Work of one layer, for each number of tokens. */
  readonly batches: readonly ExpectedWork[];
  /** Null if there are no weights. */
  readonly storage: GroupStorage | null;
}

/** Numbers of weights, without biases. */
export interface ParameterCounts {
  /** In one expert. */
  readonly expert: number;
  /** In the whole layer: all experts, the shared one, router and gates. */
  readonly layer: number;
  /** How many of them one token uses; at most, if some experts return their input. */
  readonly active: number;
}

/** Bytes of weights in one dtype. */
export interface WeightMemory {
  /** The dtype or format; several with commas between them. */
  readonly dtype: string;
  /** Bytes of one expert. */
  readonly expertBytes: number;
  /** Bytes of one layer. */
  readonly layerBytes: number;
  /** Bytes of all layers of the group. */
  readonly allBytes: number;
}

/** The storage of all layers of a group; `roles` are those of the first layer, with the formats of all. */
export interface GroupStorage {
  /** Where each kind of weight is, and how it is stored. */
  readonly roles: readonly StoredRole[];
  /** Tensors of all layers of the group that were found. */
  readonly tensorCount: number;
  /** Names of tensors that are needed and not there. */
  readonly missing: readonly string[];
  /** What else loading would refuse, in words. */
  readonly problems: readonly string[];
}

/** What to inspect. */
export interface InspectionOptions {
  /** The only layer to inspect; default all layers with experts. */
  readonly layer?: number | undefined;
  /** Numbers of tokens to count the work for; default 1, 8, 64, 512 and 4096. */
  readonly tokens?: readonly number[] | undefined;
}

export const defaultTokens: readonly number[] = [1, 8, 64, 512, 4096];

/**
 * Inspects a model by its configuration and the headers of its files.
 * @throws BAD_CHECKPOINT, also for a model without MoE layers, or if no layer has a formula that is supported;
 * INVALID_ARGUMENT for a layer without experts.
 */
export async function inspectModel(
  model: OpenedModel,
  { layer, tokens = defaultTokens }: InspectionOptions,
): Promise<ModelInspection> {
  const { files, formula } = model;
  const layersWithExperts = formula.layersWithExperts();
  if (layersWithExperts.length === 0) {
    throw badCheckpoint(formula.path, `expected layers with experts, got ${formula.layerCount} dense layers`);
  }
  const layers = layer === undefined ? layersWithExperts : [formula.checkLayer(layer)];
  const groups: LayerGroup[] = [];
  const { read, refused } = readLayers(formula, layers);
  const [first] = refused;
  if (read.length === 0 && first !== undefined) throw first.error;
  checkExpertCount(model, read);
  for (const equal of groupBy(read, ({ config, details }) => JSON.stringify([config, details]))) {
    groups.push(await inspectGroup(model, equal, tokens));
  }
  const quantization = groups.every(hasFloats) ? null : (formula.method ?? quantizedBy(groups));
  return {
    path: files.path,
    family: formula.family(layersWithExperts[0] as number),
    layerCount: formula.layerCount,
    layersWithExperts,
    quantization,
    tokens: quantization === null ? null : tokensInWords(model),
    hasWeights: files.whyNoWeights === "",
    whyNoWeights: files.whyNoWeights,
    groups,
    refused: groupRefused(refused),
  };
}

function tokensInWords({ files }: OpenedModel): string | null {
  try {
    const scheme = declaredTokens(files.quantization);
    return scheme === undefined ? null : `${scheme.format}, with a scale for ${columnsInWords(scheme.columns)}`;
  } catch (error) {
    if (isMoeError(error, "UNSUPPORTED_OPERATION"))
      return `refused: ${error.message.replace(/^tokenFormat \S+: /, "")}`;
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
  return roles.some(({ formats }) => formats.some(hasScales)) ? "an unnamed method" : null;
}

function checkExpertCount({ formula: { path } }: OpenedModel, members: readonly ReadLayer[]): void {
  const count = members.reduce((sum, { config }) => sum + config.numExperts, 0);
  if (count > maximumExperts) {
    throw badCheckpoint(path, `expected at most ${maximumExperts} experts in all layers, got ${count}`);
  }
}

async function inspectGroup(
  model: OpenedModel,
  members: readonly ReadLayer[],
  tokens: readonly number[],
): Promise<LayerGroup> {
  const { config, details } = members[0] as ReadLayer;
  const { path, method, dtype: configDType } = model.formula;
  const hasWeights = model.files.whyNoWeights === "";
  const describe = (dtype: FloatDType) => checkedAt(path, () => describeLayer(config, dtype));
  const parameters = countWeights(describe("bf16"), details.sharedWidth);
  const counts = countParameters(config, path);
  const memoryAs = (dtype: FloatDType): WeightMemory => {
    const { bytes } = dtypes[dtype];
    const layerBytes = counts.layer * bytes;
    return { dtype, expertBytes: counts.expert * bytes, layerBytes, allBytes: members.length * layerBytes };
  };
  const storages = await inspectStorages(model, members);
  const declared = method === undefined ? configDTypes.get(configDType ?? "") : undefined;
  const stored = hasWeights ? storedMemory(storages, expertsWithWeights(config)) : declared ? memoryAs(declared) : null;
  const storage = hasWeights ? mergeStorages(storages) : null;
  const plain = [...configDTypes.values()].find((dtype) => dtype === stored?.dtype) ?? "bf16";
  const description = (await quantizedDescription(model, members[0] as ReadLayer, storage)) ?? describe(plain);
  const batchDType = description.weightDType as FloatDType;
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
    storage,
  };
}

/** The layer as it would be loaded, if it can be and has quantised weights. */
async function quantizedDescription(
  model: OpenedModel,
  { layer }: ReadLayer,
  storage: GroupStorage | null,
): Promise<MoeLayerDescription | undefined> {
  if (storage === null || storage.missing.length > 0 || storage.problems.length > 0) return undefined;
  const { storage: dtype, quantization } = model.files;
  if (!storage.roles.some(({ formats }) => formats.some(hasScales))) return undefined;
  return await describeSource(layerSource(model, layer), { dtype }, quantization);
}

const hasScales = (name: string) => findFormat(name)?.scales !== undefined;

/** @param path of the configuration, for errors. @throws BAD_CHECKPOINT for one that makes no sense. */
export function countParameters(config: MoeLayerConfig, path: string): ParameterCounts {
  const description = checkedAt(path, () => describeLayer(config, "bf16"));
  const parameters = countWeights(description, config.sharedExpert?.intermediateSize);
  return {
    expert: expertSize(parameters.expert),
    layer: totalWeights(parameters, expertsWithWeights(config)),
    active: totalWeights(parameters, Math.min(config.topK, expertsWithWeights(config))),
  };
}

/** Dtypes by their names in config.json. */
const configDTypes: ReadonlyMap<string, FloatDType> = new Map([
  ["float32", "f32"],
  ["float16", "f16"],
  ["bfloat16", "bf16"],
]);

async function inspectStorages(
  { files, formula }: OpenedModel,
  members: readonly ReadLayer[],
): Promise<LayerStorage[]> {
  const storages: LayerStorage[] = [];
  if (files.whyNoWeights !== "") return storages;
  for (const member of members) {
    const { config, tensors } = member;
    storages.push(
      await inspectStorage(files.layer(tensors, formula.isGiven), { config, tensors, bank: formula.saved?.bank }),
    );
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

/** WeightMemory as stored, for the first complete layer and for all together; null if there are no experts. */
function storedMemory(storages: readonly LayerStorage[], numExperts: number): WeightMemory | null {
  const complete = storages.find(({ missing }) => missing.length === 0);
  const { bytes, expertBytes } = complete ?? (storages[0] as LayerStorage);
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
