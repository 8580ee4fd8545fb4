import { join } from "node:path";
import { expect, test } from "vitest";
import {
  parseSafetensors,
  SafetensorsFile,
  ShardedCheckpoint,
  serializeSafetensors,
  writeSafetensors,
} from "../../lib/checkpoint/safetensors/index.js";
import { isMoeError } from "../../lib/index.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expectError, expectRejection } from "../support/errors.js";

// Arguments of the functions for safetensors files that are not what they seem.

// biome-ignore lint/suspicious/noExplicitAny: what is passed here is of no type that the functions take
const anything = (value: unknown) => value as any;

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

function transferred(): Uint8Array {
  const array = new Uint8Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

const one = { dtype: "U8", shape: [4], data: Uint8Array.of(1, 2, 3, 4) } as const;
const names = [1n, Symbol("x"), undefined, {}, revoked({}), 3];
const urls = [new URL("https://example.com/model"), Object.create(URL.prototype), revoked(new URL("file:///model"))];

test("names are strings, and paths are strings or URLs", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "model.safetensors");
  await writeSafetensors(path, { x: one });
  await using file = await SafetensorsFile.open(path);
  await using checkpoint = await ShardedCheckpoint.open(directory.path);
  for (const name of [...names, ...urls].map(anything)) {
    expectError(() => file.info(name), "INVALID_ARGUMENT", /^name: expected a string, got /);
    await expectRejection(file.read(name), "INVALID_ARGUMENT", /^name: expected a string/);
    await expectRejection(checkpoint.fileOf(name), "INVALID_ARGUMENT", /^name: expected a string/);
    expect(checkpoint.has(name)).toBe(false);
    await expectRejection(SafetensorsFile.open(name), "INVALID_ARGUMENT", /^path: expected a path or a file: URL/);
    await expectRejection(
      ShardedCheckpoint.open(name),
      "INVALID_ARGUMENT",
      /^directory: expected a path or a file: URL/,
    );
    await expectRejection(writeSafetensors(name, {}), "INVALID_ARGUMENT", /^path: expected a path or a file: URL/);
    const tensors = new Map([[name, one]]);
    expectError(() => serializeSafetensors(tensors), "INVALID_ARGUMENT", /^a name in tensors: expected a string/);
  }
});

test("bytes are those of a real array", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "a.safetensors");
  await writeSafetensors(path, { x: one });
  await using file = await SafetensorsFile.open(path);
  const proxies = [new Proxy(new Uint8Array(4), {}), Object.create(new Uint8Array(4)), revoked(new Uint8Array(4))];
  for (const bytes of [...proxies, new DataView(new ArrayBuffer(4)), [1, 2, 3, 4], 4n].map(anything)) {
    expectError(() => parseSafetensors(bytes), "INVALID_ARGUMENT", /^bytes: expected a Uint8Array, got /);
    await expectRejection(
      file.readInto("x", bytes),
      "INVALID_ARGUMENT",
      /^target: expected a Uint8Array of .* 4 bytes/,
    );
    await expectRejection(file.readRange("x", 0, bytes), "INVALID_ARGUMENT", /^target: expected a Uint8Array, got/);
    const tensors = { x: { ...one, data: bytes } };
    expectError(() => serializeSafetensors(tensors), "INVALID_ARGUMENT", /^tensors\["x"\]\.data: expected Uint8Array/);
  }
  await expectRejection(file.readInto("x", transferred()), "INVALID_ARGUMENT", /whose buffer was transferred/);
  const lying = Object.defineProperties(new Uint8Array(2), { byteLength: { value: 4 }, length: { value: 4 } });
  await expectRejection(file.readInto("x", lying), "INVALID_ARGUMENT", /4 bytes, got 2$/);
  const target = Buffer.alloc(4);
  await file.readInto("x", target);
  expect([...target]).toEqual([1, 2, 3, 4]);
});

test("tensors and metadata are read once, from what they are", () => {
  for (const tensors of [
    new Proxy(new Map([["x", one]]), {}),
    [["x", one]],
    new Set(),
    revoked({}),
    revoked(new Map()),
  ]) {
    expectError(
      () => serializeSafetensors(anything(tensors)),
      "INVALID_ARGUMENT",
      /^tensors: expected a Map or an obj/,
    );
  }
  const endless = Object.assign(new Map([["x", one]]), {
    *[Symbol.iterator]() {
      for (;;) yield ["x", one];
    },
  });
  const { tensors } = parseSafetensors(serializeSafetensors(anything(endless)));
  expect([...tensors.keys()]).toEqual(["x"]);
  let reads = 0;
  const growing = {
    ...one,
    get shape() {
      return [4 * ++reads];
    },
  };
  expect(parseSafetensors(serializeSafetensors({ growing })).tensors.get("growing")?.shape).toEqual([4]);
  const metadata = {
    get a(): string {
      throw new TypeError("read");
    },
  };
  expectError(
    () => serializeSafetensors({}, { metadata }),
    "INVALID_ARGUMENT",
    /^metadata\["a"\]: expected a value that can be read, got one that throws \(TypeError\)$/,
  );
});

test("a signal that is none is refused", async () => {
  for (const bad of [{}, 3, AbortSignal, revoked(new AbortController().signal)].map(anything)) {
    await expectRejection(SafetensorsFile.open("none", { signal: bad }), "INVALID_ARGUMENT", /^signal: expected /);
  }
});

test("no value is an error of this package by accident", () => {
  for (const value of [revoked({}), revoked(new Error("none")), Symbol("x"), null])
    expect(isMoeError(value)).toBe(false);
});
