import { readFile } from "node:fs/promises";
import { describe } from "../../core/errors.js";
import { badCheckpoint, fileSystemError } from "../bad_checkpoint.js";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Whether `value` is an object but not an array. */
export function isRecord(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Parses UTF-8 JSON whose outermost value is an object. Duplicate keys, of which JSON.parse would keep the last, are
 * rejected, so that no two readers can see different contents.
 * @param place names the source in errors.
 * @throws BAD_CHECKPOINT
 */
export function parseJsonObject(place: string, bytes: Uint8Array): JsonObject {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw badCheckpoint(place, `expected valid UTF-8 JSON: ${(cause as Error).message}`, cause);
  }
  if (!isRecord(value)) throw badCheckpoint(place, `expected a JSON object, got ${describe(value)}`);
  const duplicate = duplicateKey(text);
  if (duplicate !== undefined) {
    throw badCheckpoint(place, `expected unique keys, got ${describe(duplicate)} twice`);
  }
  return value;
}

/** Reads a file with {@link parseJsonObject}. */
export async function readJsonObject(path: string): Promise<JsonObject> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw fileSystemError(path, "read", cause);
  }
  return parseJsonObject(path, bytes);
}

/** The first key that occurs twice in an object of `json`, which must be valid. */
function duplicateKey(json: string): string | undefined {
  const keysOfOpenObjects: Set<string>[] = [];
  const colon = /[ \t\n\r]*:/y;
  for (let index = 0; index < json.length; index++) {
    const character = json[index];
    if (character === "{") keysOfOpenObjects.push(new Set());
    else if (character === "}") keysOfOpenObjects.pop();
    else if (character === '"') {
      const end = stringEnd(json, index);
      colon.lastIndex = end;
      if (colon.test(json)) {
        const keys = keysOfOpenObjects.at(-1) as Set<string>;
        const key = JSON.parse(json.slice(index, end)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      index = end - 1;
    }
  }
  return undefined;
}

/** The index after the closing quote of the string literal that begins at `begin`. */
function stringEnd(json: string, begin: number): number {
  let index = begin + 1;
  while (json[index] !== '"') index += json[index] === "\\" ? 2 : 1;
  return index + 1;
}
