import { join } from "node:path";
import { describe, isMoeError } from "../../core/errors.js";
import { printable } from "../../core/text/printable.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { ConfigFields } from "../config_fields.js";
import { exists } from "../safetensors/regular_file.js";
import { isRecord, readJsonObject } from "../safetensors/strict_json.js";
import { groupsIn, overridesIn, type StatedStorage, statedStorage } from "./stated_storage.js";

/** The methods whose files can be read. */
export const quantMethods = [
  "fp8",
  "mxfp4",
  "compressed-tensors",
  "modelopt",
  "gptq",
  "awq",
  "bitsandbytes",
  "auto-round",
  "quark",
  "fbgemm_fp8",
  "blockwise_int8",
  "w8a8_int8",
  "w4afp8",
  "mlx",
  "hqq",
  "torchao",
  "mxfp8",
] as const;

/** A method whose files can be read. */
export type QuantMethod = (typeof quantMethods)[number];

/** The formats of compressed-tensors that can be read: all but those of sparse weights. */
const formats = [
  "dense",
  "pack-quantized",
  "int-quantized",
  "float-quantized",
  "naive-quantized",
  "nvfp4-pack-quantized",
  "mxfp4-pack-quantized",
  "mxfp8-quantized",
  "mixed-precision",
] as const;

/** A field of a configuration with a value that is not read. */
interface UnreadField {
  readonly name: string;
  readonly expected: readonly string[];
  readonly given: unknown;
}

/**
 * What a model's configuration says about quantisation: `quantization_config` in config.json, else the file of a
 * quantising tool. Shapes and dtypes say nearly everything; this is asked for what they do not.
 */
export class Quantization {
  /** Undefined if nothing says that the model is quantised. */
  readonly fields: ConfigFields | undefined;
  /** `quant_method`, without the prefix that AutoRound's had before April 2025; undefined without {@link fields}. */
  readonly method: string | undefined;
  readonly #stated: readonly StatedStorage[];

  /** @param method of a tool whose files do not name it. @param chosen what a caller says in place of `quant_method`. */
  constructor(fields?: ConfigFields, method?: string, chosen?: QuantMethod) {
    const named = chosen ?? fields?.value("quant_method") ?? method ?? (isMlx(fields) ? "mlx" : undefined);
    this.fields = fields;
    this.method = fields && (typeof named === "string" ? named.replace(/^intel\//, "") : "an unknown method");
    this.#stated = fields === undefined ? [] : statedStorage(fields, this.method);
  }

  /** Reads what config.json, if there is one, or else another file of a model directory says. */
  static async read(
    directory: string,
    config: ConfigFields | undefined,
    { signal, quantMethod }: { signal?: AbortSignal | undefined; quantMethod?: QuantMethod | undefined } = {},
  ): Promise<Quantization> {
    const places = [config, ...(config?.languageModels ?? [])];
    const sections = places.flatMap((fields) => [
      ...configNames.map((name) => fields?.section(name)),
      mlxSection(fields),
    ]);
    const section = sections.find((one) => one);
    if (section !== undefined) return new Quantization(section, undefined, quantMethod);
    for (const [name, method, inner] of toolFiles) {
      const path = join(directory, name);
      if (!(await exists(path))) continue;
      const fields = new ConfigFields(path, await readJsonObject(path, signal));
      return new Quantization(inner === undefined ? fields : (fields.section(inner) ?? fields), method, quantMethod);
    }
    return new Quantization();
  }

  /** What names another way to store weights than those that are read; undefined if nothing does. */
  get #unread(): UnreadField | undefined {
    const { fields } = this;
    if (fields === undefined) return undefined;
    if (!this.isKnown) return { name: "quant_method", expected: quantMethods, given: fields.value("quant_method") };
    if (this.method !== "compressed-tensors") return undefined;
    const stored: readonly UnreadField[] = [
      { name: "format", expected: formats, given: fields.value("format") },
      { name: "sparsity_config: format", expected: ["dense"], given: sparsityOf(fields) },
    ];
    return stored.find(({ expected, given }) => given !== undefined && !expected.includes(given as string));
  }

  /** True if files of the named method can be read, or none is named. */
  get isKnown(): boolean {
    return this.fields === undefined || (quantMethods as readonly (string | undefined)[]).includes(this.method);
  }

  /**
   * The error to throw if weights were not found, or not understood: it tells if the configuration names an unknown method
   * or format. Dequantised models often keep that field, so the field alone is no reason to refuse them.
   */
  explain(error: unknown): unknown {
    const { fields } = this;
    const unread = this.#unread;
    if (fields === undefined || unread === undefined || !isMoeError(error, "BAD_CHECKPOINT")) return error;
    const { name, expected, given } = unread;
    if (error.message.startsWith(printable(`${fields.path}: ${name}: `))) return error;
    const choices = expected.length > 1 ? `one of ${expected.join(", ")}` : describe(expected[0]);
    const got = given === undefined ? "no such field" : describe(given);
    const remedy = this.isKnown
      ? ""
      : "; if the files are those of a known method, name it as quantMethod (--quant-method)";
    return badCheckpoint(fields.path, `${name}: expected ${choices}, got ${got} (${error.message})${remedy}`, error);
  }

  /** Everything that decides what stored bits mean, as text. */
  get text(): string {
    return this.fields === undefined ? "" : JSON.stringify([this.method, this.fields.all]);
  }

  /** A text in lower case; undefined if it is absent. @throws BAD_CHECKPOINT */
  word(name: string): string | undefined {
    const value = this.fields?.value(name);
    if (value === undefined || typeof value === "string") return value?.toLowerCase();
    throw badCheckpoint(this.fields?.path ?? "", `${name}: expected a string, got ${describe(value)}`);
  }

  /** The sizes [N, K] of the blocks of several rows that share a scale; undefined if none are named. @throws BAD_CHECKPOINT */
  get blockSize(): readonly [number, number] | undefined {
    const named = this.namedBlock;
    return named?.[0] === 1 ? undefined : named;
  }

  /** The same where a block may be a group of columns in one row. @throws BAD_CHECKPOINT */
  get namedBlock(): readonly [number, number] | undefined {
    const { fields } = this;
    const sizes = [fields?.value("weight_block_size"), ...this.#groups.map((group) => group.block_structure)];
    const named = sizes.find((size) => size !== undefined && size !== null);
    if (named === undefined) return undefined;
    // compressed-tensors also reads "128x128".
    const given = typeof named === "string" ? named.split("x").map(Number) : named;
    if (Array.isArray(given) && given.length === 2 && given.every((size) => Number.isSafeInteger(size) && size > 0)) {
      return given as [number, number];
    }
    const name = fields?.has("weight_block_size") ? "weight_block_size" : "config_groups: weights: block_structure";
    throw badCheckpoint(fields?.path ?? "", `${name}: expected two integers >= 1, got ${JSON.stringify(named)}`);
  }

  /** Whether scales of something else are named beside {@link blockSize}, for other matrices. */
  get hasOtherScales(): boolean {
    return this.#groups.some(({ strategy }) => strategy === "channel" || strategy === "tensor" || strategy === "group");
  }

  /** Whether weights are codes divided by their scales, not multiplied. @throws BAD_CHECKPOINT */
  get dividesByScales(): boolean {
    const meaning = this.word("weight_scale_semantics"); // of GPTQModel's fp8
    if (meaning === undefined || meaning === "inverse") return meaning !== undefined;
    throw badCheckpoint(
      this.fields?.path ?? "",
      `weight_scale_semantics: expected "inverse", or no such field if scales are multiplied, got ${describe(meaning)}`,
    );
  }

  /** Settings of single modules. */
  get overrides(): readonly Readonly<Record<string, unknown>>[] {
    return this.fields === undefined ? [] : overridesIn(this.fields.all);
  }

  /** Whether all kinds of weight that compressed-tensors names have zero points. */
  get isAsymmetric(): boolean {
    const groups = this.#groups;
    return groups.length > 0 && groups.every(({ symmetric }) => symmetric === false);
  }

  /** Numbers that are stated of any of the weights; an empty list states nothing. @throws BAD_CHECKPOINT */
  get stated(): readonly StatedStorage[] {
    const [height, columns] = this.namedBlock ?? [];
    return height === 1 ? [...this.#stated, { columns }] : this.#stated;
  }

  /** `weights` of the groups of compressed-tensors. */
  get #groups(): readonly Readonly<Record<string, unknown>>[] {
    return this.fields === undefined ? [] : groupsIn(this.fields.all);
  }
}

/** How compressed-tensors stores sparse weights. */
function sparsityOf(fields: ConfigFields): unknown {
  const config = fields.value("sparsity_config");
  return isRecord(config) ? config.format : undefined;
}

/** MLX names no method. */
function isMlx(fields: ConfigFields | undefined): boolean {
  return typeof fields?.value("group_size") === "number" && typeof fields.value("bits") === "number";
}

/** MLX's section, which may be the only one. Others may mean something else by its name. */
function mlxSection(fields: ConfigFields | undefined): ConfigFields | undefined {
  const section = isRecord(fields?.value("quantization")) ? fields.section("quantization") : undefined;
  return isMlx(section) ? section : undefined;
}

/** What config.json calls it; the second one is of the first compressed-tensors. */
const configNames = ["quantization_config", "compression_config"] as const;

/** Files of tools that do not write config.json: name, method, and the field that holds the rest. */
const toolFiles: readonly (readonly [string, string, string?])[] = [
  ["hf_quant_config.json", "modelopt", "quantization"],
  ["quantize_config.json", "gptq"],
  ["quant_config.json", "awq"],
];
