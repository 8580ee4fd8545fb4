import { MoeError } from "../../core/errors.js";
import { type TokenFormat, type TokenScheme, tokenFormats, tokenScheme } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { printable } from "../../core/text/printable.js";
import type { ConfigFields } from "../config_fields.js";
import { isRecord } from "../safetensors/strict_json.js";
import type { Quantization } from "./quantization.js";
import { elsewhere } from "./transforms.js";

/** The token formats that layers can be loaded with. */
export const loadedTokenFormats = [...tokenFormats, "checkpoint"] as const;
export type LoadedTokenFormat = (typeof loadedTokenFormats)[number];

/** What ModelOpt calls weights whose inputs are not rounded. */
const unrounded: readonly unknown[] = ["INT4_AWQ", "W4A16_AWQ", "W4A16", "W8A16", "FP8_PB_WO"];

/**
 * What a checkpoint's configuration says about the experts' inputs: the `input_activations` of compressed-tensors, the
 * `activation_scheme` and `scale_fmt` of fp8, the `quant_algo` of ModelOpt, the `input_tensors` of Quark, the `act_bits` of
 * AutoRound, the class in the `quant_type` of torchao, and what methods of that name do. Undefined: they are not rounded, and so
 * with other methods. A dynamic scale of the whole tensor is taken for one of each token, which it is for one token: results
 * must not depend on the rest of a batch.
 * @throws UNSUPPORTED_OPERATION if they are rounded in another way than {@link TokenFormat} knows.
 */
export function declaredTokens(quantization: Quantization): TokenScheme | undefined {
  const { fields, method } = quantization;
  if (fields === undefined || method === undefined) return undefined;
  return declarations.get(method)?.(fields, quantization);
}

/** Reads what a configuration of one method says. */
type Declaration = (fields: ConfigFields, quantization: Quantization) => TokenScheme | undefined;

/** By method; inputs of others are not rounded. */
const declarations: ReadonlyMap<string, Declaration> = new Map<string, Declaration>([
  ["fp8", fp8Scheme],
  ["blockwise_int8", (fields, quantization) => dynamicScheme("int8", fields, quantization)],
  ["w8a8_int8", () => ({ format: "int8", columns: 0 })],
  ["fbgemm_fp8", fbgemmScheme],
  [
    "w4afp8",
    (fields, { method }) => {
      throw refused(fields, "quant_method", method); // fp8 with static scales
    },
  ],
  ["modelopt", modelOptScheme],
  [
    "compressed-tensors",
    (fields) =>
      onlyScheme(fields, "input_activations", inputActivations(fields.value("config_groups")), compressedTensorsScheme),
  ],
  ["quark", (fields) => onlyScheme(fields, "input_tensors", quarkInputs(fields), quarkScheme)],
  ["auto-round", (fields) => onlyScheme(fields, "act_bits", autoRoundInputs(fields), autoRoundScheme)],
  ["torchao", (fields) => onlyScheme(fields, "quant_type", torchaoInputs(fields), torchaoScheme)],
]);

function refused(fields: ConfigFields, name: string, given: unknown): MoeError {
  return unsupported(`${fields.path}: ${name}`, "8-bit integers or floats with a dynamic scale for each token", given);
}

/** The only scheme of all experts that are given, or undefined; null stands for inputs that are not rounded. */
function onlyScheme(
  fields: ConfigFields,
  name: string,
  given: readonly unknown[],
  schemeOf: (one: unknown) => TokenScheme | undefined,
): TokenScheme | undefined {
  const [first, ...others] = given;
  const differs = others.find((other) => JSON.stringify(other) !== JSON.stringify(first));
  if (differs !== undefined) throw unsupported(`${fields.path}: ${name}`, "the same for all experts", differs);
  if (first === undefined || first === null) return undefined;
  const scheme = schemeOf(first);
  if (scheme === undefined) throw refused(fields, name, first);
  return scheme;
}

/** A dynamic scale of a token, or of a block of it as wide as those of the weights. */
function dynamicScheme(
  format: "int8" | "fp8",
  fields: ConfigFields,
  { namedBlock }: Quantization,
): TokenScheme | undefined {
  const scheme = fields.value("activation_scheme");
  if (scheme === undefined) return undefined;
  if (scheme !== "dynamic") throw refused(fields, "activation_scheme", scheme);
  const [, columns = 0] = namedBlock ?? [];
  if (columns === 0 || columns === 128) return { format, columns };
  throw refused(fields, "weight_block_size", fields.value("weight_block_size"));
}

function fp8Scheme(fields: ConfigFields, quantization: Quantization): TokenScheme | undefined {
  const scheme = dynamicScheme("fp8", fields, quantization);
  if (scheme === undefined) return undefined;
  const powers = fields.value("scale_fmt") ?? undefined;
  if (powers === undefined) return scheme;
  if (powers === "ue8m0") return { ...scheme, format: "fp8_ue8m0" };
  throw unsupported(`${fields.path}: scale_fmt`, '"ue8m0" or none', powers);
}

function fbgemmScheme(fields: ConfigFields): TokenScheme {
  const limit = fields.value("activation_scale_ub");
  if (limit === undefined) return { format: "fp8", columns: 0 };
  throw unsupported(`${fields.path}: activation_scale_ub`, "scales of inputs without a limit", limit);
}

function modelOptScheme(fields: ConfigFields): TokenScheme | undefined {
  const algorithm = fields.value("quant_algo");
  if (unrounded.includes(algorithm)) return undefined;
  if (algorithm === "FP8_PER_CHANNEL_PER_TOKEN") return { format: "fp8", columns: 0 };
  throw refused(fields, "quant_algo", algorithm);
}

function torchaoInputs(fields: ConfigFields): readonly unknown[] {
  const given = fields.value("quant_type");
  return [(isRecord(given) ? given.default : given) ?? null].filter(roundsInputs);
}

/** Whether a configuration of torchao is more than one of the weights. */
const roundsInputs = (given: unknown) =>
  given !== null && !(isRecord(given) && /WeightOnlyConfig$/.test(String(given._type)));

function torchaoScheme(given: unknown): TokenScheme | undefined {
  if (!isRecord(given) || !isRecord(given._data)) return undefined;
  const { activation_value_lb: low, activation_value_ub: high, act_mapping_type: mapping } = given._data;
  const limited = (low ?? high ?? null) !== null;
  const symmetric = !isRecord(mapping) || mapping._data === "SYMMETRIC";
  const formats: ReadonlyMap<unknown, "fp8" | "int8"> = new Map([
    ["Float8DynamicActivationFloat8WeightConfig", "fp8"],
    ["Int8DynamicActivationInt8WeightConfig", "int8"],
  ]);
  return limited || !symmetric ? undefined : ofTokens(formats.get(given._type), 8, true);
}

/** A dynamic scale for each token. */
function ofTokens(format: "int8" | "fp8" | undefined, bits: unknown, dynamic: unknown): TokenScheme | undefined {
  return format === undefined || bits !== 8 || dynamic !== true ? undefined : { format, columns: 0 };
}

/** `input_tensors` for the experts, null where inputs are not rounded. */
function quarkInputs(fields: ConfigFields): readonly unknown[] {
  const ofLayers = fields.value("layer_quant_config");
  const others = Object.entries(isRecord(ofLayers) ? ofLayers : {}).filter(([name]) => !isElsewhere(name));
  const all = [fields.value("global_quant_config"), ...others.map(([, one]) => one)];
  return all.map((one) => (isRecord(one) ? (one.input_tensors ?? null) : null));
}

/** Scales of "channels" of inputs are those of tokens. */
function quarkScheme(given: unknown): TokenScheme | undefined {
  if (!isRecord(given)) return undefined;
  const { dtype, qscheme, is_dynamic: dynamic, symmetric } = given;
  if (symmetric === false || (qscheme !== "per_channel" && qscheme !== "per_tensor")) return undefined;
  return ofTokens(dtype === "int8" ? "int8" : dtype === "fp8_e4m3" ? "fp8" : undefined, 8, dynamic);
}

/** The fields about inputs, if these have fewer than 16 bits. */
function autoRoundInputs(fields: ConfigFields): readonly unknown[] {
  const bits = fields.value("act_bits");
  if (bits === undefined || (typeof bits === "number" && bits >= 16)) return [];
  const names = ["act_bits", "act_data_type", "act_dynamic", "act_sym", "act_group_size"] as const;
  return [Object.fromEntries(names.map((name) => [name, fields.value(name)]))];
}

function autoRoundScheme(given: unknown): TokenScheme | undefined {
  if (!isRecord(given)) return undefined;
  const { act_bits: bits, act_data_type: type, act_dynamic: dynamic, act_sym: symmetric, act_group_size: size } = given;
  if (symmetric === false || size !== -1) return undefined;
  return ofTokens(type === "int" ? "int8" : type === "fp" ? "fp8" : undefined, bits, dynamic);
}

/** `input_activations` of every group that experts may be of, null where inputs are not rounded. */
function inputActivations(groups: unknown): readonly unknown[] {
  if (!isRecord(groups)) return [];
  const given = Object.values(groups).map((group) => (isRecord(group) ? group : {}));
  const ofExperts = given.filter(({ targets }) => !(Array.isArray(targets) && targets.every(isElsewhere)));
  return ofExperts.map((group) => group.input_activations ?? null);
}

const isElsewhere = (target: unknown) => elsewhere.test(String(target));

/** Undefined if there is no such scheme here. */
function compressedTensorsScheme(given: unknown): TokenScheme | undefined {
  if (!isRecord(given)) return undefined;
  const { num_bits: bits, type = "int", strategy, dynamic, symmetric = true, group_size: size } = given;
  const blocks = given.block_structure;
  const format = type === "float" ? "fp8" : type === "int" ? "int8" : undefined;
  if (format === undefined || bits !== 8 || dynamic !== true || symmetric !== true) return undefined;
  if (strategy === "token" || strategy === "tensor") return ofTokens(format, bits, dynamic);
  const columns = strategy === "block" && Array.isArray(blocks) && blocks[0] === 1 ? blocks[1] : size;
  return (strategy === "group" || strategy === "block") && columns === 128 ? { format, columns } : undefined;
}

/**
 * The token format to load a layer with, whose experts' quantised matrices have these formats.
 * @throws UNSUPPORTED_OPERATION if "checkpoint" asks for what products with these formats do not do.
 */
export function resolveTokenFormat(
  asked: LoadedTokenFormat,
  quantization: Quantization,
  formats: readonly WeightFormatName[],
): TokenFormat {
  if (asked !== "checkpoint") return asked;
  const declared = declaredTokens(quantization);
  if (declared === undefined || formats.length === 0) return "none";
  for (const name of formats) {
    const scheme = tokenScheme(declared.format, weightFormat(name));
    if (scheme?.columns === declared.columns) continue;
    const place = `${quantization.fields?.path}: scales of inputs of ${name} weights`;
    throw unsupported(
      place,
      `one for ${columnsInWords(scheme?.columns)}`,
      `one for ${columnsInWords(declared.columns)}`,
    );
  }
  return declared.format;
}

function unsupported(place: string, expected: string, given: unknown): MoeError {
  const got = typeof given === "string" ? given : JSON.stringify(given);
  return new MoeError(
    "UNSUPPORTED_OPERATION",
    printable(`tokenFormat "checkpoint": ${place}: expected ${expected}, got ${got}; choose "int8", "fp8" or "none"`),
  );
}

export function columnsInWords(columns: TokenScheme["columns"] | undefined): string {
  return columns === 128 ? "each 128 columns of a token" : "each token";
}
