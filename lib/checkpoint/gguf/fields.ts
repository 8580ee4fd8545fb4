import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { GgufValue } from "./metadata.js";

/** The metadata of an architecture, by names without its prefix. */
export class GgufFields {
  readonly #path: string;
  readonly #architecture: string;
  readonly #metadata: ReadonlyMap<string, GgufValue>;
  readonly #read = new Set<string>();

  constructor(path: string, architecture: string, metadata: ReadonlyMap<string, GgufValue>) {
    this.#path = path;
    this.#architecture = architecture;
    this.#metadata = metadata;
  }

  integer(name: string): number {
    return this.#checked(name, this.#value(name), 1);
  }

  /** A positive integer; undefined if it is absent, or 0, which llama.cpp saves for what files did not say. */
  optional(name: string): number | undefined {
    const value = this.#value(name);
    return value === undefined ? undefined : this.#checked(name, value, 0) || undefined;
  }

  /** An integer that is the same for all layers, or listed for each layer. */
  ofLayer(name: string, layer: number): number {
    return this.#checked(name, this.elementOf(name, layer), 1);
  }

  /** A value that is the same for all layers, or listed for each layer. */
  elementOf(name: string, layer: number): unknown {
    const value = this.#value(name);
    return ArrayBuffer.isView(value) ? value[layer] : value;
  }

  number(name: string): number | undefined {
    const value = this.#value(name);
    if (value === undefined || (typeof value === "number" && Number.isFinite(value))) return value;
    throw this.error(name, "a finite number", value);
  }

  boolean(name: string): boolean | undefined {
    const value = this.#value(name);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.error(name, "a boolean", value);
  }

  error(name: string, expected: string, got: unknown): Error {
    return badCheckpoint(this.#path, `${this.#architecture}.${name}: expected ${expected}, got ${describe(got)}`);
  }

  /** Whether any function has looked at the value. */
  wasRead(name: string): boolean {
    return this.#read.has(name);
  }

  #value(name: string): GgufValue | undefined {
    this.#read.add(name);
    return this.#metadata.get(`${this.#architecture}.${name}`);
  }

  #checked(name: string, value: unknown, least: number): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= least) return value;
    throw this.error(name, `an integer >= ${least}`, value);
  }
}
