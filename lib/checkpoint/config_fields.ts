import { join } from "node:path";
import { checkInteger, describe } from "../core/errors.js";
import { badCheckpoint, checkedAt } from "./bad_checkpoint.js";
import { configName } from "./remedies.js";
import { isRecord, type JsonObject, readJsonObject } from "./safetensors/strict_json.js";

/**
 * The fields of a configuration, such as a model's config.json. A field that is absent or null gets the fallback (for a
 * model, the default of its configuration class in Transformers); without a fallback it is a BAD_CHECKPOINT error.
 */
export class ConfigFields {
  /** Path of the file, for errors. */
  readonly path: string;
  readonly #fields: JsonObject;
  readonly #read = new Set<string>();

  /** @internal */
  constructor(path: string, fields: JsonObject) {
    this.path = path;
    this.#fields = fields;
  }

  /** @internal Reads a model directory's config.json. Throws BAD_CHECKPOINT if it is missing or not a JSON object. */
  static async read(directory: string, signal?: AbortSignal): Promise<ConfigFields> {
    const path = join(directory, configName);
    return new ConfigFields(path, await readJsonObject(path, signal));
  }

  /** @internal All fields as they are in the file. */
  get all(): JsonObject {
    return this.#fields;
  }

  /** @internal Whether any function has looked at the field. */
  wasRead(name: string): boolean {
    return this.#read.has(name);
  }

  /** The value as it is in the file; undefined if absent or null. */
  value(name: string): unknown {
    return this.#get(name) ?? undefined;
  }

  /** Whether the field is there and not null. */
  has(name: string): boolean {
    return this.value(name) !== undefined;
  }

  /** Whether the field is present and null, for fields where null has a meaning of its own. */
  isNull(name: string): boolean {
    return this.#get(name) === null;
  }

  /** The fields of a nested object; undefined if it is absent or null. */
  section(name: string): ConfigFields | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (!isRecord(value)) throw this.#error(name, "an object", value);
    return new ConfigFields(`${this.path}: ${name}`, value);
  }

  /** @internal The sections that describe the language model of a multimodal one, under the names that there are. */
  get languageModels(): readonly ConfigFields[] {
    const owners = [this.section("thinker_config"), this]; // Qwen-Omni's thinker has a text_config of its own
    const names = ["text_config", "llm_config", "language_config"];
    return owners.flatMap((owner) => names.flatMap((name) => owner?.section(name) ?? []));
  }

  /** An integer from `minimum` to `maximum`; `alias` is another name that Transformers saves the field under. */
  integer(
    name: string,
    fallback: number | undefined,
    { minimum = 1, maximum = Number.MAX_SAFE_INTEGER, alias = name } = {},
  ): number {
    const value = this.#get(name) ?? this.#get(alias) ?? fallback;
    return checkedAt(this.path, () => {
      checkInteger(name, value, minimum, maximum);
      return value;
    });
  }

  /** An integer that is the same for all layers (or kinds of tokens), or listed for each. Limits are as in {@link integer}. */
  integerOfLayer(
    name: string,
    fallback: number | undefined,
    layer: number,
    limits: { minimum?: number | undefined; maximum?: number | undefined } = {},
  ): number {
    const value = this.value(name);
    if (!Array.isArray(value)) return this.integer(name, fallback, limits);
    return new ConfigFields(this.path, { [name]: value[layer] }).integer(name, undefined, limits);
  }

  /**
   * Throws BAD_CHECKPOINT if the field is present with a value other than `expected`, the only one that is supported.
   */
  require(name: string, expected: boolean | number | string): void {
    const value = this.value(name) ?? expected;
    if (value !== expected) throw this.#error(name, JSON.stringify(expected), value);
  }

  /**
   * A boolean.
   * @throws BAD_CHECKPOINT for anything else, or if it is absent without a fallback.
   */
  boolean(name: string, fallback: boolean | undefined): boolean {
    const value = this.#get(name) ?? fallback;
    if (typeof value !== "boolean") throw this.#error(name, "a boolean", value);
    return value;
  }

  /**
   * A finite number.
   * @throws BAD_CHECKPOINT as {@link boolean}.
   */
  number(name: string, fallback: number | undefined): number {
    const value = this.#get(name) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) throw this.#error(name, "a finite number", value);
    return value;
  }

  /**
   * A list of integers.
   * @throws BAD_CHECKPOINT for anything else.
   */
  integers(name: string, fallback: readonly number[]): readonly number[] {
    const value = this.#get(name) ?? fallback;
    if (!Array.isArray(value) || !value.every(Number.isSafeInteger))
      throw this.#error(name, "a list of integers", value);
    return value;
  }

  /** The entry of `choices` that the field's string names. */
  choice<T>(name: string, fallback: string | undefined, choices: ReadonlyMap<string, T>): T {
    const value = this.#get(name) ?? fallback;
    const chosen = typeof value === "string" ? choices.get(value) : undefined;
    if (chosen === undefined) {
      throw this.#error(
        name,
        `one of ${[...choices.keys()].map((choice) => JSON.stringify(choice)).join(", ")}`,
        value,
      );
    }
    return chosen;
  }

  #get(name: string): unknown {
    this.#read.add(name);
    return this.#fields[name];
  }

  #error(name: string, expected: string, value: unknown): Error {
    return badCheckpoint(this.path, `${name}: expected ${expected}, got ${describe(value)}`);
  }
}
