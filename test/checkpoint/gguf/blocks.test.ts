import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { unpackWords } from "../../../lib/checkpoint/gguf/blocks/code_words.js";
import {
  blockTypeOf,
  blockTypes,
  convertBlocks,
  convertBlocksAside,
  toBlocks,
} from "../../../lib/checkpoint/gguf/blocks/convert.js";
import { ggufTypes } from "../../../lib/checkpoint/gguf/types.js";
import { SafetensorsFile } from "../../../lib/checkpoint/safetensors/index.js";
import { loadNative } from "../../../lib/core/addon/native.js";
import { freeWeight, type WeightFormatName } from "../../../lib/core/formats/weight_format.js";
import { weightFormat } from "../../../lib/core/formats/weight_formats.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { type QuantizedWeight, quantizedMatrix } from "../../../lib/operators/experts/quantized_weight.js";
import { dequantize } from "../../../lib/reference/formats/dequantize.js";
import { expectError, expectRejection } from "../../support/errors.js";
import {
  blockDecoders,
  type DecodedType,
  decodeBlocks,
  goldenBlocks,
  halfPlaces,
  readOnlyTypes,
} from "../../support/gguf_blocks.js";

const device = openDevice("reference");
afterAll(() => device.dispose());

const types = Object.keys(blockDecoders) as DecodedType[];

/** Golden blocks and their values. */
async function golden(type: DecodedType) {
  for (const path of goldenBlocks) {
    await using file = await SafetensorsFile.open(path);
    if (!file.tensors.has(`${type}.blocks`)) continue;
    const { data: blocks } = await file.read(`${type}.blocks`);
    const { data: values } = await file.read(`${type}.values`);
    return { blocks: blocks as Uint8Array, values: values as Float64Array };
  }
  throw new Error(`no golden blocks of ${type}`);
}

/** The values of a matrix of one row, by its format's definition. */
function values(type: DecodedType, blocks: Uint8Array): Float64Array {
  const { bytes, elements } = ggufTypes[type];
  const columns = (blocks.length / bytes) * elements;
  const { codes, ...levels } = convertBlocks(type, blocks, "test");
  const format = blockTypes.get(type)?.format as WeightFormatName;
  const level = (values: Uint8Array | Uint16Array): Tensor =>
    values instanceof Uint8Array
      ? device.tensor(values, [1, values.length])
      : device.tensor(values, [1, values.length], "f16");
  const weight: QuantizedWeight = {
    format,
    codes: device.tensor(codes, [1, codes.length]) as Tensor<"u8">,
    ...Object.fromEntries(Object.entries(levels).map(([role, values]) => [role, level(values)])),
    ...(type === "NVFP4" && { superScales: device.tensor(Float32Array.of(1), [1, 1]) }),
  };
  const matrix = quantizedMatrix("weight", weight, [1, columns]);
  try {
    return dequantize(matrix).values as Float64Array;
  } finally {
    freeWeight(matrix);
  }
}

/** 0 may have any sign. */
const unsigned = (numbers: ArrayLike<number>) => Array.from(numbers, (value) => value + 0);

test("every type that is converted is tested", () => {
  expect([...blockTypes.keys()].sort()).toEqual([...types].sort());
});

test.each(types)("%s blocks have the values that the reference decodes", async (type) => {
  const { blocks, values: expected } = await golden(type);
  expect(expected.some((value) => value !== 0)).toBe(true);
  expect(unsigned(values(type, blocks))).toEqual(unsigned(expected));
});

/** Random blocks with finite scales. */
const anyBlocks = (type: DecodedType) =>
  fc.integer({ min: 1, max: 5 }).chain((count) => {
    const { bytes } = ggufTypes[type];
    return fc.uint8Array({ minLength: count * bytes, maxLength: count * bytes }).map((random) => {
      const blocks = Uint8Array.from(random);
      for (let begin = 0; begin < blocks.length; begin += bytes) {
        for (const place of halfPlaces[type]) blocks[begin + place + 1] = (blocks[begin + place + 1] as number) & 0xbb;
        if (type === "IQ1_M") blocks[begin + 55] = (blocks[begin + 55] as number) & 0xbf;
        if (type === "MXFP4") blocks[begin] = (blocks[begin] as number) % 255;
      }
      return blocks;
    });
  });

test.each(types)("any %s blocks, at any address", (type) => {
  fc.assert(
    fc.property(anyBlocks(type), fc.nat(3), (blocks, shift) => {
      const shifted = new Uint8Array(blocks.length + shift).subarray(shift);
      shifted.set(blocks);
      expect(unsigned(values(type, shifted))).toEqual(unsigned(decodeBlocks(type, blocks, ggufTypes[type])));
    }),
    { numRuns: 60 },
  );
});

/** ggml does not look at the sign of NVFP4's scales, and takes 0x7f for 0. */
function canonical(type: DecodedType, blocks: Uint8Array): Uint8Array {
  if (type !== "NVFP4") return blocks;
  return blocks.map((byte, at) => (at % 36 >= 4 ? byte : (byte & 0x7f) === 0x7f ? 0 : byte & 0x7f));
}

const written = types.filter((type) => !readOnlyTypes.includes(type));

test.each(written)("%s blocks are written as they were read", async (type) => {
  const { blocks: read } = await golden(type);
  expect(toBlocks(type, convertBlocks(type, read, "test"))).toEqual(canonical(type, read));
  fc.assert(
    fc.property(anyBlocks(type), (blocks) => {
      expect(toBlocks(type, convertBlocks(type, blocks, "test"))).toEqual(canonical(type, blocks));
    }),
    { numRuns: 60 },
  );
});

test("a format's type is found by its data", () => {
  for (const type of written) expect(blockTypeOf(weightFormat(blockTypes.get(type)?.format as string))).toBe(type);
  expect(blockTypeOf(weightFormat("q8_0"))).toBe("Q8_0");
  for (const none of ["int4_g32", "int8", "nf4", "mxfp8", "iq1_s", "iq2_xs", "iq3_s", "i2_g256_f16"])
    expect(blockTypeOf(weightFormat(none))).toBeUndefined();
});

describe("scales that are no numbers are refused", () => {
  const cases = types.flatMap((type) => halfPlaces[type].map((place) => [type, place] as const));
  test.each(cases)("%s, the float16 at byte %i", (type, place) => {
    for (const bits of [0x7c00, 0xfc00, 0x7e01]) {
      const { bytes } = ggufTypes[type];
      const blocks = new Uint8Array(2 * bytes);
      new DataView(blocks.buffer).setUint16(bytes + place, bits, true);
      expectError(
        () => convertBlocks(type, blocks, "t"),
        "BAD_CHECKPOINT",
        /^t: \w+: expected finite float16 .* at 1$/,
      );
    }
  });

  test("IQ1_M, the float16 in four parts", () => {
    const blocks = new Uint8Array(112).with(55 + 56, 0x70).with(53 + 56, 0xc0);
    const message = /^t: superScales: expected finite float16 values, got the bits 0x7c00 at 1$/;
    expectError(() => convertBlocks("IQ1_M", blocks, "t"), "BAD_CHECKPOINT", message);
  });

  test("MXFP4 with exponent 255, which ggml takes for 2^128", () => {
    const blocks = new Uint8Array(34).with(17, 255);
    expectError(
      () => convertBlocks("MXFP4", blocks, "t"),
      "BAD_CHECKPOINT",
      /^t: scales: expected exponents up to 254/,
    );
  });
});

describe("codes that threads of the addon read", () => {
  beforeAll(() => void loadNative());

  test.each(types)("are those that TypeScript reads: %s", async (type) => {
    await fc.assert(
      fc.asyncProperty(anyBlocks(type), fc.nat(3), async (blocks, shift) => {
        const shifted = new Uint8Array(blocks.length + shift).subarray(shift);
        shifted.set(blocks);
        expect(await convertBlocksAside(type, shifted, "test")).toEqual(convertBlocks(type, blocks, "test"));
      }),
      { numRuns: 60 },
    );
  });

  test("in several pieces", async () => {
    const blocks = new Uint8Array(5000 * ggufTypes.IQ3_S.bytes).map((_, index) => Math.imul(index, 0x9e3779b1) >>> 24);
    for (let at = 0; at < blocks.length; at += ggufTypes.IQ3_S.bytes) blocks.set([0, 0x2c], at);
    expect(await convertBlocksAside("IQ3_S", blocks, "test")).toEqual(convertBlocks("IQ3_S", blocks, "test"));
  });

  test("no blocks", async () => {
    expect((await convertBlocksAside("Q4_K", new Uint8Array(0), "test")).codes).toEqual(new Uint8Array(0));
  });

  test("scales that are no numbers are refused", async () => {
    const blocks = new Uint8Array(144).with(1, 0x7c);
    await expectRejection(
      convertBlocksAside("Q4_K", blocks, "t"),
      "BAD_CHECKPOINT",
      /^t: superScales: expected finite/,
    );
  });
});

test("codes behind the first 2^32 bits are read where they are", () => {
  const first = 2 ** 29;
  const codes = new Uint8Array(first + 8); // of which no page is there but the last one
  codes.set([1, 2, 3, 4, 5, 6, 7, 8], first);
  const words = new Uint32Array(2);
  unpackWords(codes, 8, first, words);
  expect(words).toEqual(Uint32Array.of(0x04030201, 0x08070605));
});
