import { badCheckpoint } from "../bad_checkpoint.js";
import { JsonParser, type JsonRules } from "./json_parser.js";
import { atOnce, inPieces, type Pieces } from "./pieces.js";
import { RegularFile } from "./regular_file.js";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Largest JSON file, and largest header of a safetensors file: the limit of the format itself. */
export const maximumJsonBytes = 100_000_000;

/** Far more than a configuration or an index has: the largest models have about 150,000 tensors. */
const strict: JsonRules = { total: 2 ** 20, perMember: 2 ** 20 };
/** Python writes configurations, and in them numbers that JSON does not have: `"time_step_limit": [0.0, Infinity]`. */
const python: JsonRules = { ...strict, nonFinite: true };

/** Whether `value` is an object but not an array. */
export function isRecord(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Parses UTF-8 JSON whose outermost value is an object, as strictly as {@link JsonParser}.
 * @param place where the text comes from, for errors.
 * @throws BAD_CHECKPOINT
 */
export function parseJsonObject(place: string, bytes: Uint8Array): JsonObject {
  return atOnce(parse(place, bytes, strict));
}

/**
 * Reads and parses a file as strictly, but with NaN and Infinity, and with pauses in which the event loop runs.
 * @throws BAD_CHECKPOINT, also if it is not a regular file or larger than 100 MB; the signal's reason.
 */
export async function readJsonObject(path: string, signal?: AbortSignal): Promise<JsonObject> {
  return await inPieces(parse(path, await readBytes(path, signal), python), signal);
}

function* parse(place: string, bytes: Uint8Array, rules: JsonRules): Pieces<JsonObject> {
  const object = Object.create(null) as Record<string, unknown>;
  const parser = new JsonParser(place, bytes, rules, (name, value) => {
    object[name] = value;
  });
  yield* parser.parse();
  return object;
}

async function readBytes(path: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  await using file = await RegularFile.open(path);
  if (file.size > maximumJsonBytes) {
    throw badCheckpoint(path, `expected a JSON file of at most ${maximumJsonBytes} bytes, got ${file.size}`);
  }
  const bytes = new Uint8Array(file.size);
  await file.read(bytes, 0, { signal });
  return bytes;
}
