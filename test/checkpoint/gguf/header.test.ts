import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseHeader } from "../../../lib/checkpoint/gguf/header.js";
import { isMoeError } from "../../../lib/checkpoint/gguf/index.js";
import { type GgufType, ggufByteLength, ggufTypes } from "../../../lib/checkpoint/gguf/types.js";
import { layOutGguf } from "../../../lib/checkpoint/gguf/write/header.js";
import { expectError } from "../../support/errors.js";
import { type GgufInput, ggufString, type MetadataValue, rawGguf, type TensorInput } from "../../support/gguf.js";
import { mutated } from "../../support/mutations.js";

const parse = (bytes: Uint8Array) => parseHeader("x.gguf", bytes);
const a: TensorInput = { name: "a", type: "F32", shape: [8] };
const one = (tensor: Partial<TensorInput>) => rawGguf({ tensors: [{ ...a, ...tensor }] });
const entry = (value: MetadataValue) => rawGguf({ metadata: { k: value } });

/** Metadata whose array says that it has `count` elements. */
function claimed(count: bigint, of: number): Buffer {
  const bytes = entry({ type: "array", of, value: [] });
  bytes.writeBigUInt64LE(count, bytes.length - 8);
  return bytes;
}

/** What is wrong, the file, and part of the message. */
const malformed: [string, Uint8Array, RegExp][] = [
  ["an empty file", new Uint8Array(0), /^x\.gguf: GGUF: expected 4 bytes at 0, got a file of 0$/],
  ["three bytes", Buffer.from("GGU"), /expected 4 bytes at 0, got a file of 3/],
  [
    "another magic",
    rawGguf({ magic: "GGML" }),
    /expected a GGUF file, which begins with "GGUF", got one that begins with "GGML"/,
  ],
  ["version 1", rawGguf({ version: 1 }), /expected GGUF version 2 or 3, got 1$/],
  ["version 4", rawGguf({ version: 4 }), /expected GGUF version 2 or 3, got 4$/],
  ["a big-endian file", rawGguf({ version: 0x03000000 }), /version 2 or 3, got a big-endian file$/],
  [
    "2^63 tensors",
    rawGguf({ tensorCount: 2n ** 63n }),
    /number of tensors: expected at most 262144, got 9223372036854775808/,
  ],
  [
    "more tensors than the file can have",
    rawGguf({ tensorCount: 1000 }),
    /number of tensors: expected at most 0 in the file's last 8 bytes, got 1000/,
  ],
  ["a tensor too many", rawGguf({ tensorCount: 2, tensors: [a] }), /x\.gguf/],
  [
    "2^64 - 1 metadata entries",
    rawGguf({ entryCount: -1n }),
    /metadata entries: expected at most 65536, got 18446744073709551615/,
  ],
  [
    "more entries than the file can have",
    rawGguf({ entryCount: 1, metadata: {} }),
    /metadata entries: expected at most 0/,
  ],
  [
    "a key of 2^40 bytes",
    rawGguf({ entryCount: 1, magic: "GGUF", metadata: {}, more: 40 }).fill(255, 24, 32),
    /bytes of a name: expected at most 65535/,
  ],
  [
    "a key longer than the file",
    Buffer.concat([rawGguf({ entryCount: 1 }), Buffer.from([99, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(20)]),
    /expected at most 20 in the file's last 20 bytes, got 99/,
  ],
  ["an empty key", rawGguf({ metadata: { "": 1 } }), /metadata: key: expected a name in UTF-8, got none/],
  [
    "a key twice",
    rawGguf({
      metadata: [
        ["k", 1],
        ["k", "x"],
      ],
    }),
    /expected unique keys, got "k" twice/,
  ],
  ["an unknown value type", entry({ type: 13, value: 1 }), /metadata: "k": expected a value type from 0 to 12, got 13/],
  ["a boolean of 2", entry({ type: "bool", value: 2 }), /"k": expected a boolean, 0 or 1, got 2/],
  [
    "a string of 2^40 bytes",
    entry("x".repeat(8)).fill(255, 37, 42),
    /bytes of a string: expected at most 16777216, got/,
  ],
  [
    "a string beyond the file",
    entry("x").fill(9, 37, 38),
    /bytes of a string: expected at most 1 in the file's last 1 bytes, got 9/,
  ],
  [
    "an array of arrays",
    claimed(0n, 9),
    /expected an array of numbers, booleans or strings, got arrays, which ggml does not/,
  ],
  ["an array of an unknown type", claimed(0n, 99), /numbers, booleans or strings, got value type 99/],
  ["an array of 2^62 numbers", claimed(2n ** 62n, 4), /elements: expected at most 4194304, got 4611686018427387904/],
  [
    "an array of numbers beyond the file",
    claimed(4_000_000n, 0),
    /elements: expected at most 0 in the file's last 0 bytes, got 4000000/,
  ],
  ["an array of strings beyond the file", claimed(4_000_000n, 8), /elements: expected at most 0/],
  [
    "an alignment that is a string",
    rawGguf({ metadata: { "general.alignment": "32" } }),
    /"general\.alignment": expected a u32 \(value type 4\), got value type 8/,
  ],
  [
    "an alignment of 0",
    rawGguf({ metadata: { "general.alignment": 0 } }),
    /general\.alignment: expected a power of two, got 0/,
  ],
  ["an alignment of 48", rawGguf({ metadata: { "general.alignment": 48 } }), /expected a power of two, got 48/],
  ["a tensor without name", one({ name: "" }), /tensor 0: expected a name in UTF-8/],
  ["a tensor twice", rawGguf({ tensors: [a, a] }), /expected unique tensors, got "a" twice/],
  ["five dimensions", one({ shape: [1, 1, 1, 1, 8] }), /tensor "a": expected at most 4 dimensions, got 5/],
  ["2^32 - 1 dimensions", one({ shape: [8] }).fill(255, 33, 37), /expected at most 4 dimensions, got 4294967295/],
  ["a size of 2^63", one({ shape: [2n ** 63n] }), /expected sizes below 2\^50, got 9223372036854775808/],
  [
    "sizes whose product overflows",
    one({ shape: [2 ** 40, 2 ** 40] }),
    /expected fewer than 2\^50 bytes, got F32 \[1099511627776, 1099511627776\]/,
  ],
  [
    "sizes whose product wraps to 4 in 64 bits",
    one({ shape: [2 ** 32 + 1, 2 ** 32 + 1] }),
    /expected fewer than 2\^50 bytes/,
  ],
  [
    "an unknown type",
    one({ type: 999 }),
    /tensor "a": expected one of the types F32, F16, Q4_0, .*NVFP4.*, got type 999$/,
  ],
  ["a type of ik_llama.cpp", one({ type: 139 }), /got type 139, which only ik_llama\.cpp reads$/],
  ["a type that ggml removed", one({ type: 31 }), /got type 31, Q4_0_4_4, which ggml has removed$/],
  [
    "rows of no whole blocks",
    one({ type: "Q4_K", shape: [2, 128] }),
    /rows of whole blocks of 256 elements for Q4_K, got \[2, 128\]/,
  ],
  ["a scalar of a block type", one({ type: "Q8_0", shape: [] }), /whole blocks of 32 elements for Q8_0/],
  [
    "an offset beyond the file",
    one({ offset: 2n ** 60n }),
    /"a": offset: expected 0, the aligned end of the tensor before, got 1152921504606846976/,
  ],
  ["a hole", rawGguf({ tensors: [a, { ...a, name: "b", offset: 64 }] }), /"b": offset: expected 32, .* got 64/],
  ["an overlap", rawGguf({ tensors: [a, { ...a, name: "b", offset: 0 }] }), /"b": offset: expected 32, .* got 0/],
  [
    "an offset that is not aligned",
    rawGguf({
      tensors: [
        { ...a, shape: [2] },
        { ...a, name: "b", offset: 8 },
      ],
    }),
    /"b": offset: expected 32, .* got 8/,
  ],
  [
    "a truncated tensor",
    rawGguf({ tensors: [a, { ...a, name: "b" }], more: -1 }),
    /tensor "b": expected 160 bytes according to the header, got 159: truncated/,
  ],
  [
    "a header and no data",
    one({}).subarray(0, 64),
    /tensor "a": expected \d+ bytes according to the header, got 64: truncated/,
  ],
  ["trailing bytes", rawGguf({ tensors: [a], more: 1 }), /got 97: trailing bytes/],
  ["data without tensors", rawGguf({ more: 40 }), /got 64: trailing bytes/],
];

describe("a malformed file is BAD_CHECKPOINT and says what is wrong", () => {
  test.each(malformed)("%s", (_what, bytes, message) => {
    expectError(() => parse(bytes), "BAD_CHECKPOINT", message);
  });

  test("a name that is not UTF-8", () => {
    const bytes = one({});
    bytes[bytes.indexOf(ggufString("a")) + 8] = 0xff;
    expectError(() => parse(bytes), "BAD_CHECKPOINT", /tensor 0: expected a name in UTF-8, got other bytes/);
  });
});

describe("what is valid is read", () => {
  test("every type of value", () => {
    const metadata = {
      u8: { type: "u8", value: 255 },
      i8: { type: "i8", value: -128 },
      u16: { type: "u16", value: 65535 },
      i16: { type: "i16", value: -32768 },
      u32: { type: "u32", value: 4294967295 },
      i32: { type: "i32", value: -2147483648 },
      u64: { type: "u64", value: 2n ** 64n - 1n },
      i64: { type: "i64", value: -(2n ** 63n) },
      small: { type: "u64", value: 2n ** 53n - 1n },
      negative: { type: "i64", value: -5n },
      f32: { type: "f32", value: 0.5 },
      f64: { type: "f64", value: 0.1 },
      yes: true,
      no: false,
      text: "\u00e4 \ud83d\ude00",
      empty: "",
      strings: ["a", "", "b"],
      booleans: [true, false],
      none: { type: "array", of: "f32", value: [] },
      numbers: { type: "array", of: "i16", value: [1, -2] },
      wide: { type: "array", of: "u64", value: [1n, 2n ** 63n] },
    } as const;
    const { metadata: read, version } = parse(
      rawGguf({ metadata: metadata as unknown as Record<string, MetadataValue> }),
    );
    expect(version).toBe(3);
    expect(Object.fromEntries(read)).toEqual({
      u8: 255,
      i8: -128,
      u16: 65535,
      i16: -32768,
      u32: 4294967295,
      i32: -2147483648,
      u64: 2n ** 64n - 1n,
      i64: -(2n ** 63n),
      small: 2 ** 53 - 1,
      negative: -5,
      f32: 0.5,
      f64: 0.1,
      yes: true,
      no: false,
      text: "\u00e4 \ud83d\ude00",
      empty: "",
      strings: ["a", "", "b"],
      booleans: [true, false],
      none: new Float32Array(0),
      numbers: Int16Array.of(1, -2),
      wide: BigUint64Array.of(1n, 2n ** 63n),
    });
  });

  test("text that is not UTF-8, as some tokenizers have it", () => {
    const bytes = entry("xyz");
    bytes[bytes.length - 1] = 0xff;
    expect(parse(bytes).metadata.get("k")).toBe("xy\ufffd");
  });

  test("shapes from the outermost size on, scalars, empty tensors and names of Object.prototype", () => {
    const tensors = [
      { name: "__proto__", type: "Q4_K", shape: [3, 2, 512] },
      { name: "scalar", type: "F32", shape: [] },
      { name: "constructor", type: "F16", shape: [0, 4] },
      { name: "last", type: "I8", shape: [1] },
    ] as const;
    const read = [...parse(rawGguf({ tensors })).tensors];
    expect(read.map(([name, { type, shape }]) => ({ name, type, shape }))).toEqual(tensors);
    expect(read.map(([, { byteLength }]) => byteLength)).toEqual([3 * 2 * 2 * 144, 4, 0, 1]);
  });

  test.each(Object.keys(ggufTypes) as GgufType[])("a tensor of type %s", (type) => {
    const shape = [2, 3 * ggufTypes[type].elements];
    const { tensors } = parse(one({ type, shape }));
    expect(tensors.get("a")).toMatchObject({ type, shape, byteLength: 6 * ggufTypes[type].bytes });
    expect(ggufByteLength(type, shape)).toBe(6 * ggufTypes[type].bytes);
  });

  test.each([1, 8, 64, 4096])("data that are aligned to %d bytes", (alignment) => {
    const metadata = { "general.alignment": alignment };
    const bytes = rawGguf({
      alignment,
      metadata,
      tensors: [
        { ...a, shape: [3] },
        { ...a, name: "b" },
      ],
    });
    for (const { byteOffset } of parse(bytes).tensors.values()) expect(byteOffset % alignment).toBe(0);
  });

  test("version 2, and a last tensor without padding", () => {
    const bytes = rawGguf({ version: 2, tensors: [{ ...a, shape: [3] }], more: -20 });
    expect(parse(bytes)).toMatchObject({ version: 2, tensors: new Map([["a", { byteLength: 12 }]]) });
  });

  test("metadata only", () => {
    expect(parse(entry("x")).tensors.size).toBe(0);
  });
});

const anyTensor = fc.record({
  type: fc.constantFrom<GgufType>("F32", "F16", "BF16", "Q4_0", "Q4_K", "Q6_K", "MXFP4", "NVFP4", "I8"),
  rows: fc.array(fc.nat(3), { maxLength: 3 }),
  blocks: fc.nat(3),
});
const anyValue: fc.Arbitrary<MetadataValue> = fc.oneof(
  fc.nat(),
  fc.string({ unit: "grapheme" }),
  fc.boolean(),
  fc.array(fc.string(), { minLength: 1, maxLength: 5 }),
  fc.array(fc.nat(), { minLength: 1, maxLength: 5 }),
);
const anyFile: fc.Arbitrary<GgufInput> = fc.record({
  version: fc.constantFrom(2, 3),
  metadata: fc.dictionary(fc.string({ minLength: 1 }), anyValue, { maxKeys: 5 }),
  tensors: fc.array(anyTensor, { maxLength: 5 }).map((all) =>
    all.map(({ type, rows, blocks }, index) => ({
      name: `blk.${index}`,
      type,
      shape: [...rows, blocks * ggufTypes[type].elements],
    })),
  ),
});

test("any file", () => {
  fc.assert(
    fc.property(anyFile, (input) => {
      const { metadata, tensors, version } = parse(rawGguf(input));
      expect(version).toBe(input.version);
      expect([...metadata.keys()]).toEqual(Object.keys(input.metadata as object));
      expect(Array.from(tensors, ([name, { type, shape }]) => ({ name, type, shape }))).toEqual(input.tensors);
    }),
  );
});

test("a file is written with more tokens than a call can have arguments", () => {
  const tokens = Array.from({ length: 2 ** 18 }, (_, id) => `t${id}`);
  const { header } = layOutGguf(new Map([["tokenizer.ggml.tokens", tokens]]), []);
  expect(parse(header).metadata.get("tokenizer.ggml.tokens")).toEqual(tokens);
});

test("any mutation of a valid file is read, or is BAD_CHECKPOINT", () => {
  const outcomes = { read: 0, refused: 0 };
  fc.assert(
    fc.property(anyFile, fc.integer(), (input, seed) => {
      try {
        parse(mutated(rawGguf(input), seed));
        outcomes.read++;
      } catch (error) {
        expect(isMoeError(error, "BAD_CHECKPOINT"), String(error)).toBe(true);
        outcomes.refused++;
      }
    }),
    { numRuns: 4000 },
  );
  expect(outcomes.refused).toBeGreaterThan(1000);
  expect(outcomes.read).toBeGreaterThan(100);
});
