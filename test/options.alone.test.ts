import { describe, expect, test } from "vitest";
import { GgufFile, SplitGguf } from "../lib/checkpoint/gguf/index.js";
import { parseSafetensors, SafetensorsFile, ShardedCheckpoint } from "../lib/checkpoint/safetensors/index.js";
import * as api from "../lib/index.js";
import { callsForTests } from "./support/public_calls/calls_for_tests.js";
import type { Options } from "./support/public_calls/index.js";

// Calls every public function that takes options with an option that does not exist, with each of its options misspelt,
// and with getters that return something else when they are read again.

const device = api.openDevice("reference");
const { calls } = await callsForTests(device);

const classes = [
  "Device",
  "Tensor",
  "MoeError",
  "CapturedForward",
  "PackedExperts",
  "MoeLayer",
  "MoeModel",
  "RouterStats",
  "LayerState",
  "LayerTensors",
  "LayerParameters",
];

test("every public function is here", () => {
  const known = ["listDevices", ...classes, ...calls.map(({ name }) => name)];
  expect(Object.keys(api).filter((name) => !known.includes(name))).toEqual([]);
  expect(parseSafetensors.length).toBe(1);
});

/** Objects that are options or groups of them, but neither tensors nor functions. */
function isOptions(value: unknown): value is Record<string, unknown> {
  const prototype = typeof value === "object" && value !== null ? Object.getPrototypeOf(value) : undefined;
  return prototype === Object.prototype || prototype === Array.prototype;
}

/** Paths of every field in options, except in maps whose names the user chooses. */
function paths(options: Record<string, unknown>, prefix: readonly string[] = []): string[][] {
  return Object.entries(options).flatMap(([name, value]) => {
    const path = [...prefix, name];
    return [path, ...(isOptions(value) && name !== "metadata" ? paths(value, path) : [])];
  });
}

/** A copy in which `change` has been applied to the object that holds the field at `path`. */
function changed(options: Options, [name, ...rest]: readonly string[], change: (object: Options) => void): Options {
  const copy = Array.isArray(options) ? [...options] : { ...options };
  if (name === undefined) change(copy);
  else copy[name] = changed(options[name], rest, change);
  return copy;
}

/** Options whose fields, at every depth, return something else when they are read a second time. */
function readableOnce(options: Record<string, unknown>, reads: Map<string, number>, prefix = ""): object {
  if (Array.isArray(options)) {
    return options.map((entry, index) => (isOptions(entry) ? readableOnce(entry, reads, `${prefix}${index}.`) : entry));
  }
  const result = {};
  for (const [name, value] of Object.entries(options)) {
    const path = prefix + name;
    reads.set(path, 0);
    const first = isOptions(value) && name !== "metadata" ? readableOnce(value, reads, `${path}.`) : value;
    const get = () => {
      reads.set(path, (reads.get(path) as number) + 1);
      return reads.get(path) === 1 ? first : -1e9;
    };
    Object.defineProperty(result, name, { get, enumerable: true });
  }
  return result;
}

async function messageOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    if (api.isMoeError(error)) return error.message;
    throw error;
  }
  return "no error";
}

/** Records of tensors, which may have more fields: see `results`. */
const isRecord = (path: readonly string[]) => path[0] === "out" || path[0] === "routing";

const files = [SafetensorsFile, ShardedCheckpoint, GgufFile, SplitGguf];

const withOptions = calls.filter(({ valid }) => valid.length > 0);

describe.each(withOptions)("$name", ({ args, after, valid, ...subject }) => {
  const run = async (options: Options) => {
    const result = await subject.call(...args, options, ...after);
    if (result instanceof api.MoeLayer || result instanceof api.Device) result.dispose();
    if (files.some((kind) => result instanceof kind)) await (result as AsyncDisposable)[Symbol.asyncDispose]();
  };

  test("takes its options", async () => {
    for (const options of valid) await run(options);
  });

  test("refuses an option that does not exist", async () => {
    for (const options of valid) {
      const groups = paths(options).filter((path) => isOptions(at(options, path)) && path.at(-1) !== "metadata");
      for (const path of [[], ...groups]) {
        if (isRecord(path) || Array.isArray(at(options, path))) continue;
        const bad = changed(options, path, (object) => {
          object.zzzzzzzzz = 1;
        });
        expect(await messageOf(() => run(bad))).toMatch(/: there is no option "zzzzzzzzz"; expected /);
      }
    }
  });

  test("suggests the name that was meant", async () => {
    for (const options of valid) {
      for (const path of paths(options)) {
        const name = path.at(-1) as string;
        const owner = path.slice(0, -1);
        if (Array.isArray(at(options, owner))) continue;
        const bad = changed(options, owner, (object) => {
          object[`${name}${name.at(-1)}`] = object[name];
          delete object[name];
        });
        const message = await messageOf(() => run(bad));
        if (isRecord(owner)) expect(message).toBe(`${path.join(".")}: expected a Tensor, got undefined`);
        else expect(message).toContain(`there is no option "${name}${name.at(-1)}"; did you mean "${name}"?`);
      }
    }
  });

  test("takes an option that is undefined as one that is left out", async () => {
    for (const options of valid) {
      for (const path of paths(options)) {
        const name = path.at(-1) as string;
        const owner = path.slice(0, -1);
        if (Array.isArray(at(options, owner))) continue;
        const leftOut = changed(options, owner, (object) => {
          delete object[name];
        });
        const given = changed(options, owner, (object) => {
          object[name] = undefined;
        });
        expect(await messageOf(() => run(given)), path.join(".")).toBe(await messageOf(() => run(leftOut)));
      }
    }
  });

  test("reads every option once", async () => {
    for (const options of valid) {
      const reads = new Map<string, number>();
      await run(readableOnce(options, reads));
      expect([...reads].filter(([, count]) => count !== 1)).toEqual([]);
    }
  });
});

function at(options: Options, path: readonly string[]): Options {
  return path.reduce((object, name) => object[name], options);
}
