import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isMoeError, parseSafetensors, serializeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { rawSafetensors } from "../support/raw_safetensors.js";
import { anyMetadata, anyTensors } from "../support/tensors.js";

const f32 = (shape: unknown, offsets: unknown, dtype: unknown = "F32") => ({ dtype, shape, data_offsets: offsets });

/** JSON of an object with `count` members. */
function many(count: number, value: unknown = ""): string {
  const json = JSON.stringify(value);
  return `{${Array.from({ length: count }, (_, index) => `"${index}":${json}`).join(",")}}`;
}

/** What is wrong, the file, and part of the message. */
const malformed: [string, Uint8Array, string | RegExp][] = [
  ["an empty file", new Uint8Array(0), "at least 8 bytes, got 0"],
  ["a file shorter than the length", new Uint8Array(7), "at least 8 bytes, got 7"],
  ["a header longer than the file", rawSafetensors("{}").with(0, 200), "header of 200 bytes, got a file of 10"],
  ["a header beyond the cap", rawSafetensors("{}").with(3, 6), "at most 100000000 bytes, got a length of 100663298"],
  ["a header length of 2^63", rawSafetensors("{}").with(7, 128), "got a length of 9223372036854775810"],
  ["an empty header", rawSafetensors(""), "object from the first byte on"],
  ["a header that begins with a space", rawSafetensors(" {}"), "object from the first byte on"],
  ["a header that begins with a byte order mark", rawSafetensors("\ufeff{}"), "object from the first byte on"],
  ["a header that is a list", rawSafetensors("[]"), "object from the first byte on"],
  ["broken JSON", rawSafetensors('{"a":'), "expected valid UTF-8 JSON"],
  ["bytes after the JSON", rawSafetensors("{}x"), "expected valid UTF-8 JSON"],
  ["bytes that are not UTF-8", rawSafetensors('{"a":"?"}').with(8 + 6, 0xff), "expected valid UTF-8 JSON"],
  ["deep nesting", rawSafetensors(`{"a":${"[".repeat(100_000)}`), "expected JSON of at most 64 levels"],
  [
    "a shape of nested lists",
    rawSafetensors(`{"a":{"dtype":"U8","shape":${"[".repeat(60)}${"]".repeat(60)},"data_offsets":[0,1]}}`, 1),
    "shape: expected integers",
  ],
  [
    "a shape of a million sizes",
    rawSafetensors({ a: { dtype: "U8", shape: new Array(1e6).fill(0) } }),
    '"a": expected at most 65536 values',
  ],
  [
    "metadata of a million entries",
    rawSafetensors(`{"__metadata__":${many(1e6)}}`),
    '"__metadata__": expected at most',
  ],
  ["a number of a million digits", rawSafetensors(`{"a":${"1".repeat(1e6)}}`), "expected valid UTF-8 JSON"],
  ["a string of 17 MB", rawSafetensors(`{"a":{"dtype":"${"x".repeat(17e6)}"}}`), "strings of at most 16777216 bytes"],
  ["300,000 tensors", rawSafetensors(many(3e5, { dtype: "U8", shape: [0], data_offsets: [0, 0] })), "at most 262144"],
  [
    "a tensor twice",
    rawSafetensors('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8"}}', 1),
    'expected unique keys, got "a" twice',
  ],
  ["a field twice", rawSafetensors('{"a":{"dtype":"F32","dtype" :"U8"}}'), 'got "dtype" twice'],
  ["metadata twice", rawSafetensors('{"__metadata__":{"k":"}","k":"{"}}'), 'got "k" twice'],
  ["a name that is half a character", rawSafetensors('{"\\ud800":{}}'), "a name in well-formed Unicode"],
  ["a tensor that is not an object", rawSafetensors({ a: 1 }), 'tensor "a": expected an object, got 1'],
  ["a tensor that is a list", rawSafetensors({ a: [] }), 'tensor "a": expected an object, got array of length 0'],
  ["a tensor that is null", rawSafetensors({ a: null }), 'tensor "a": expected an object, got null'],
  ["no dtype", rawSafetensors({ a: { shape: [], data_offsets: [0, 4] } }, 4), "dtype: expected one of BOOL"],
  [
    "an unknown dtype",
    rawSafetensors({ a: f32([], [0, 4], "f32") }, 4),
    'BF16, I32, U32, F32, C64, F64, I64, U64, got "f32"',
  ],
  ["a dtype from Object.prototype", rawSafetensors({ a: f32([], [0, 4], "toString") }, 4), 'got "toString"'],
  ["an unknown field", rawSafetensors({ a: { ...f32([], [0, 4]), scale: 1 } }, 4), 'data_offsets, got "scale"'],
  ["a shape that is not a list", rawSafetensors({ a: f32(1, [0, 4]) }, 4), "shape: expected integers"],
  ["a negative size", rawSafetensors({ a: f32([-1], [0, 4]) }, 4), "got [-1]"],
  ["a fractional size", rawSafetensors({ a: f32([1.5], [0, 4]) }, 4), "got [1.5]"],
  ["a size that is a string", rawSafetensors({ a: f32(["1"], [0, 4]) }, 4), 'got ["1"]'],
  [
    "a size beyond 2^53",
    rawSafetensors('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}', 1),
    "2^53",
  ],
  ["a size that overflows", rawSafetensors({ a: f32([2 ** 40, 2 ** 40], [0, 4]) }, 4), "fewer than 2^50"],
  [
    "sizes whose product wraps to 4 in 64 bits",
    rawSafetensors({ a: f32([2 ** 32 + 1, 2 ** 32 + 1], [0, 4]) }, 4),
    "2^50",
  ],
  ["elements that end inside a byte", rawSafetensors({ a: f32([3], [0, 2], "F4") }, 2), "whole bytes"],
  ["no offsets", rawSafetensors({ a: { dtype: "U8", shape: [1] } }, 1), "data_offsets: expected [begin, end]"],
  ["one offset", rawSafetensors({ a: f32([], [4]) }, 4), "data_offsets: expected [begin, end], got [4]"],
  ["three offsets", rawSafetensors({ a: f32([], [0, 4, 4]) }, 4), "data_offsets: expected [begin, end]"],
  ["a negative offset", rawSafetensors({ a: f32([], [-4, 0]) }, 4), "data_offsets: expected [begin, end]"],
  ["offsets the wrong way round", rawSafetensors({ a: f32([], [4, 0]) }, 4), "expected 4 bytes of data for F32 []"],
  [
    "too few bytes",
    rawSafetensors({ a: f32([2], [0, 4]) }, 4),
    "expected 8 bytes of data for F32 [2], got data_offsets [0, 4]",
  ],
  ["too many bytes", rawSafetensors({ a: f32([2], [0, 12]) }, 12), "expected 8 bytes of data for F32 [2]"],
  [
    "a hole before the data",
    rawSafetensors({ a: f32([], [4, 8]) }, 8),
    "expected to begin at 0, where the previous tensor ends, got 4: hole",
  ],
  [
    "a hole",
    rawSafetensors({ a: f32([], [0, 4]), b: f32([], [5, 9]) }, 9),
    'tensor "b": data_offsets: expected to begin at 4',
  ],
  ["an overlap", rawSafetensors({ a: f32([], [0, 4]), b: f32([], [3, 7]) }, 7), "got 3: overlap"],
  ["the same bytes twice", rawSafetensors({ a: f32([], [0, 4]), b: f32([], [0, 4]) }, 4), "got 0: overlap"],
  [
    "truncated data",
    rawSafetensors({ a: f32([2], [0, 8]) }, 7),
    /expected \d+ bytes according to the header, got \d+: truncated/,
  ],
  ["trailing bytes", rawSafetensors({ a: f32([2], [0, 8]) }, 9), "trailing bytes"],
  ["data without tensors", rawSafetensors("{}", 1), "trailing bytes"],
  [
    "metadata that is not an object",
    rawSafetensors({ __metadata__: "pt" }),
    '__metadata__: expected an object of strings, got "pt"',
  ],
  [
    "metadata that is null",
    rawSafetensors({ __metadata__: null }),
    "__metadata__: expected an object of strings, got null",
  ],
  [
    "metadata that is not a string",
    rawSafetensors({ __metadata__: { format: 1 } }),
    "__metadata__.format: expected a string, got 1",
  ],
];

describe("a malformed file is BAD_CHECKPOINT and says what is wrong", () => {
  test.each(malformed)("%s", (_what, bytes, message) => {
    const parse = () => parseSafetensors(bytes);
    expect(parse).toThrow(expect.objectContaining({ name: "MoeError", code: "BAD_CHECKPOINT" }));
    expect(parse).toThrow(message);
  });
});

describe("what is unusual but valid is read", () => {
  test("no tensors", () => {
    expect(parseSafetensors(rawSafetensors("{}"))).toEqual({ tensors: new Map(), metadata: {} });
  });

  test("spaces after the header, keys that also occur elsewhere, braces and quotes in strings", () => {
    const header =
      '{"__metadata__":{"a":"{\\"a\\":","b":"\\\\"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   ';
    const { tensors, metadata } = parseSafetensors(rawSafetensors(header, Uint8Array.of(7, 9)));
    expect(metadata).toEqual({ a: '{"a":', b: "\\" });
    expect(tensors.get("a")).toEqual({ dtype: "U8", shape: [2], data: Uint8Array.of(7, 9) });
  });

  test("tensors listed in another order than their data, empty ones, scalars, and names of Object.prototype", () => {
    const header = `{"b":${JSON.stringify(f32([], [4, 8]))},"__proto__":${JSON.stringify(f32([3, 0], [4, 4]))},"constructor":${JSON.stringify(f32([1], [0, 4]))}}`;
    const { tensors } = parseSafetensors(rawSafetensors(header, new Uint8Array(Float32Array.of(1, 2).buffer)));
    expect([...tensors]).toEqual([
      ["constructor", { dtype: "F32", shape: [1], data: Float32Array.of(1) }],
      ["__proto__", { dtype: "F32", shape: [3, 0], data: Float32Array.of() }],
      ["b", { dtype: "F32", shape: [], data: Float32Array.of(2) }],
    ]);
  });

  test("a hundred thousand tensors in no order", () => {
    const data = Uint8Array.from({ length: 1e5 }, (_, index) => index * 7);
    const place = (index: number) => (index * 48_271) % data.length;
    const header = Array.from(data, (_, index) => {
      return `"${index}":${JSON.stringify(f32([1], [place(index), place(index) + 1], "U8"))}`;
    });
    const { tensors } = parseSafetensors(rawSafetensors(`{${header.join(",")}}`, data));
    expect([...tensors.values()].every((tensor, index) => tensor.data[0] === data[index])).toBe(true);
    expect(tensors.size).toBe(1e5);
  });

  test("sub-byte elements that fill their bytes", () => {
    const { tensors } = parseSafetensors(rawSafetensors({ a: f32([2, 4], [0, 6], "F6_E2M3") }, 6));
    expect(tensors.get("a")?.data).toEqual(new Uint8Array(6));
  });
});

/** A mutation of a file: some bytes overwritten, inserted or removed. */
const anyMutation = fc.record({
  at: fc.nat(),
  remove: fc.nat(4),
  insert: fc.oneof(
    fc.uint8Array({ maxLength: 4 }),
    fc.constantFrom(...'{}[]",:0-9e\\ ').map((text) => Buffer.from(text)),
  ),
});

test("any mutation of a valid file is read, or is BAD_CHECKPOINT", () => {
  const mutations = fc.array(anyMutation, { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(anyTensors, anyMetadata, mutations, fc.boolean(), (tensors, metadata, changes, keepsLength) => {
      let bytes = Buffer.from(serializeSafetensors(tensors, { metadata }));
      for (const { at, remove, insert } of changes) {
        const begin = at % (bytes.byteLength + 1);
        bytes = Buffer.concat([bytes.subarray(0, begin), insert, bytes.subarray(begin + remove)]);
      }
      // Most insertions move the header's end; with the length corrected, more of them reach the later checks.
      if (keepsLength && bytes.byteLength >= 8) {
        const end = bytes.lastIndexOf("}") + 1;
        bytes.writeBigUInt64LE(BigInt(Math.max(0, end - 8)));
      }
      try {
        parseSafetensors(bytes);
      } catch (error) {
        expect(isMoeError(error, "BAD_CHECKPOINT"), String(error)).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});
