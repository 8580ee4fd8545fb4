import { MoeError } from "../../core/errors.js";
import { printable } from "../../core/printable.js";
import { type TokenFormat, type TokenScheme, tokenFormats, tokenScheme } from "../../core/token_format.js";
import type { WeightFormatName } from "../../core/weight_format.js";
import { weightFormat } from "../../core/weight_formats.js";
import { isRecord } from "../safetensors/strict_json.js";
import type { Quantization } from "./quantization.js";

/** The token formats that layers can be loaded with. */
export const loadedTokenFormats = [...tokenFormats, "checkpoint"] as const;
export type LoadedTokenFormat = (typeof loadedTokenFormats)[number];

const unrounded: readonly unknown[] = ["INT4_AWQ", "W4A16_AWQ", "W4A16", "W8A16", "FP8_PB_WO"];

/**
 * What a checkpoint's configuration says about the experts' inputs: the `input_activations` of compressed-tensors, the
 * `activation_scheme` and `scale_fmt` of fp8, the `quant_algo` of ModelOpt. Undefined: they are not rounded, and so with other methods. A
 * dynamic scale of the whole tensor is taken for one of each token, which it is for one token: results must not depend on
 * the rest of a batch.
 * @throws UNSUPPORTED_OPERATION if they are rounded in another way than {@link TokenFormat} knows.
 */
export function declaredTokens(quantization: Quantization): TokenScheme | undefined {
  const { fields, method } = quantization;
  if (fields === undefined) return undefined;
  const refuse = (name: string, given: unknown) =>
    unsupported(`${fields.path}: ${name}`, "8-bit integers or floats with a dynamic scale for each token", given);
  switch (method) {
    case "fp8": {
      const scheme = fields.value("activation_scheme");
      if (scheme === undefined) return undefined;
      if (scheme !== "dynamic") throw refuse("activation_scheme", scheme);
      const powers = fields.value("scale_fmt");
      if (powers !== undefined && powers !== null && powers !== "ue8m0") {
        throw unsupported(`${fields.path}: scale_fmt`, '"ue8m0" or none', powers);
      }
      return {
        format: powers === "ue8m0" ? "fp8_ue8m0" : "fp8",
        columns: quantization.blockSize === undefined ? 0 : 128,
      };
    }
    case "modelopt": {
      const algorithm = fields.value("quant_algo");
      if (unrounded.includes(algorithm)) return undefined;
      if (algorithm === "FP8_PER_CHANNEL_PER_TOKEN") return { format: "fp8", columns: 0 };
      throw refuse("quant_algo", algorithm);
    }
    case "compressed-tensors": {
      const [first, ...others] = inputActivations(fields.value("config_groups"));
      const differs = others.find((other) => JSON.stringify(other) !== JSON.stringify(first));
      if (differs !== undefined) {
        throw unsupported(`${fields.path}: input_activations`, "the same in all config_groups", differs);
      }
      if (first === undefined || first === null) return undefined;
      const scheme = compressedTensorsScheme(first);
      if (scheme === undefined) throw refuse("input_activations", first);
      return scheme;
    }
    default:
      return undefined;
  }
}

/** `input_activations` of every group, null where inputs are not rounded. */
function inputActivations(groups: unknown): readonly unknown[] {
  if (!isRecord(groups)) return [];
  return Object.values(groups).map((group) => (isRecord(group) ? (group.input_activations ?? null) : null));
}

/** Undefined if there is no such scheme here. */
function compressedTensorsScheme(given: unknown): TokenScheme | undefined {
  if (!isRecord(given)) return undefined;
  const { num_bits: bits, type = "int", strategy, dynamic, symmetric = true, group_size: size } = given;
  const blocks = given.block_structure;
  const format = type === "float" ? "fp8" : type === "int" ? "int8" : undefined;
  if (format === undefined || bits !== 8 || dynamic !== true || symmetric !== true) return undefined;
  if (strategy === "token" || strategy === "tensor") return { format, columns: 0 };
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
