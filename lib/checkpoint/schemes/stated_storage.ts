import type { ConfigFields } from "../config_fields.js";
import { isRecord } from "../safetensors/strict_json.js";

type Fields = Readonly<Record<string, unknown>>;

/** Numbers that a configuration states of some of its quantised weights; undefined where it states none. */
export interface StatedStorage {
  readonly bits?: number | undefined;
  /** How many columns share a scale; Infinity for all of a row. */
  readonly columns?: number | undefined;
}

/**
 * The numbers that a configuration states of its quantised weights, whichever of them it is about: patterns of names mean
 * something else in each tool. Methods without an entry, such as mxfp4, say nothing.
 */
export function statedStorage(fields: ConfigFields, method: string | undefined): readonly StatedStorage[] {
  const stated = readers.get(method)?.(fields.all) ?? [];
  return stated.filter(({ bits, columns }) => bits !== undefined || columns !== undefined);
}

/** `dynamic` of GPTQModel, `extra_config` of AutoRound: what is different for some modules. */
export function overridesIn({ dynamic, extra_config: extra }: Fields): readonly Fields[] {
  return [dynamic, extra].flatMap(recordsIn);
}

/** `weights` of the groups of compressed-tensors. */
export function groupsIn({ config_groups: groups }: Fields): readonly Fields[] {
  return recordsIn(groups).flatMap(({ weights }) => (isRecord(weights) ? [weights] : []));
}

type Reader = (fields: Fields) => readonly StatedStorage[];

const withOverrides: Reader = (fields) =>
  [fields, ...overridesIn(fields).map((one) => ({ ...fields, ...one }))].map(ofIntegers);

/** By method. */
const readers: ReadonlyMap<string | undefined, Reader> = new Map<string, Reader>([
  ["gptq", withOverrides],
  ["awq", withOverrides],
  ["auto-round", withOverrides],
  ["w4afp8", (fields) => [{ columns: columnsIn(fields) }]],
  ["mlx", (fields) => [fields, ...recordsIn(fields)].map(ofIntegers)],
  ["compressed-tensors", (fields) => groupsIn(fields).map(ofGroup)],
  ["modelopt", (fields) => [...groupsIn(fields).map(ofGroup), ...modeloptLayers(fields)]],
  ["quark", quarkWeights],
  ["bitsandbytes", ({ load_in_4bit: four, load_in_8bit: eight }) => [{ bits: four ? 4 : eight ? 8 : undefined }]],
  ["hqq", ({ quant_config: config }) => hqqWeights(config)],
  ["torchao", ({ quant_type: type }) => torchaoConfigs(type)],
]);

const integer = (value: unknown) => (Number.isSafeInteger(value) ? (value as number) : undefined);

/** A size of -1 means whole rows. */
function columnsIn({ group_size: size, q_group_size: other }: Fields): number | undefined {
  const columns = integer(size ?? other);
  return columns === -1 ? Number.POSITIVE_INFINITY : columns !== undefined && columns > 0 ? columns : undefined;
}

function ofIntegers(fields: Fields): StatedStorage {
  return { bits: integer(fields.bits ?? fields.w_bit), columns: columnsIn(fields) };
}

/** Blocks are checked where their scales are read. */
function ofGroup(weights: Fields): StatedStorage {
  const { num_bits: bits, strategy } = weights;
  const wholeRows = strategy === "channel" || strategy === "tensor";
  return { bits: integer(bits), columns: wholeRows ? Number.POSITIVE_INFINITY : columnsIn(weights) };
}

/** The algorithm of a layer has the bits in its name: NVFP4, W4A16_AWQ, FP8, INT4_AWQ. */
function modeloptLayers(fields: Fields): readonly StatedStorage[] {
  return [fields, ...recordsIn(fields.quantized_layers)].map((one) => {
    const [, bits] = /^(?:W|INT|(?:NV|MX)?FP)(\d)/.exec(String(one.quant_algo)) ?? [];
    return bits === undefined ? {} : { bits: Number(bits), columns: columnsIn(one) };
  });
}

/** Weights that are quantised in two steps are those of a list. */
function quarkWeights(fields: Fields): readonly StatedStorage[] {
  const places = [fields.global_quant_config, ...recordsIn(fields.layer_quant_config)].filter(isRecord);
  const weights = places.map(({ weight }) => weight);
  if (weights.some(Array.isArray)) return [];
  return weights.filter(isRecord).map((weight) => {
    const [, bits] = /^(?:u?int|m?x?fp)(\d)/.exec(String(weight.dtype)) ?? [];
    const wholeRows = weight.qscheme === "per_channel" || weight.qscheme === "per_tensor";
    return { bits: bits ? Number(bits) : undefined, columns: wholeRows ? Number.POSITIVE_INFINITY : columnsIn(weight) };
  });
}

/** The same for all weights, or for each kind of layer. */
function hqqWeights(config: unknown): readonly StatedStorage[] {
  return [config, ...recordsIn(config)].filter(isRecord).flatMap(({ weight_quant_params: weight }) => {
    if (!isRecord(weight)) return [];
    return [{ bits: typeof weight.nbits === "number" ? weight.nbits : undefined, columns: columnsIn(weight) }];
  });
}

/** Configurations within others, too, which are for single modules. */
function torchaoConfigs(given: unknown): readonly StatedStorage[] {
  if (!isRecord(given)) return [];
  const { _type: type, _data: data } = given;
  const inner = recordsIn(isRecord(data) ? data : given).flatMap(torchaoConfigs);
  if (!isRecord(data) || !/Weight(?:Only)?Config$/.test(String(type))) return inner;
  const { weight_dtype: dtype, granularity, weight_granularity: other } = data;
  const inDType = isRecord(dtype) ? /\d/.exec(String(dtype._data)) : null;
  const bits = /\d(?=Weight)/.exec(String(type)) ?? inDType;
  const places = [
    data,
    ...[granularity, other].flatMap((one) => (isRecord(one) && isRecord(one._data) ? [one._data] : [])),
  ];
  const columns = places.map(columnsIn).find((size) => size !== undefined);
  return [{ bits: bits ? Number(bits) : undefined, columns }, ...inner];
}

function recordsIn(fields: unknown): readonly Fields[] {
  return isRecord(fields) ? Object.values(fields).filter(isRecord) : [];
}
