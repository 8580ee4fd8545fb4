import { dtypes, type FloatDType, floatDTypes } from "../core/tensors/dtype.js";

// The body of a frame of tokens: a head of four little-endian u32 (layer, T, k, the numbers of both dtypes in 16 bits each), then
// the tokens [T, H], the weights [T, k] and the ids [T, k], each from a multiple of 8 bytes on. The answer is the share
// [T, H] in the dtype of the tokens.

const headBytes = 16;

type FloatArray = Float32Array | Float64Array | Uint16Array;

/** Tokens for a bank, with their routing. */
export interface TokensForBank {
  readonly layer: number;
  /** T. */
  readonly count: number;
  /** k, choices of a token. */
  readonly choices: number;
  /** dtype of the tokens. */
  readonly dtype: FloatDType;
  readonly weightDType: FloatDType;
  /** [T, H], stored bits. */
  readonly tokens: FloatArray;
  /** [T, k]. */
  readonly weights: FloatArray;
  /** [T, k]; -1 for an expert of another bank. */
  readonly ids: Int32Array;
}

type Sizes = Pick<TokensForBank, "count" | "choices" | "dtype" | "weightDType">;

/** Where the arrays of a body begin, and where it ends. */
function layout({ count, choices, dtype, weightDType }: Sizes, hiddenSize: number) {
  const aligned = (offset: number) => Math.ceil(offset / 8) * 8;
  const weights = aligned(headBytes + count * hiddenSize * dtypes[dtype].bytes);
  const ids = aligned(weights + count * choices * dtypes[weightDType].bytes);
  return { tokens: headBytes, weights, ids, end: ids + count * choices * 4 };
}

/** Bytes of the longest body. */
export function longestTokens(count: number, choices: number, hiddenSize: number): number {
  return layout({ count, choices, dtype: "f64", weightDType: "f64" }, hiddenSize).end;
}

export function encodeTokens(given: TokensForBank, hiddenSize: number): Uint8Array {
  const places = layout(given, hiddenSize);
  const body = Buffer.alloc(places.end);
  const types = floatDTypes.indexOf(given.dtype) + 65536 * floatDTypes.indexOf(given.weightDType);
  [given.layer, given.count, given.choices, types].forEach((value, index) => {
    body.writeUInt32LE(value, 4 * index);
  });
  for (const name of ["tokens", "weights", "ids"] as const) {
    const { buffer, byteOffset, byteLength } = given[name];
    body.set(new Uint8Array(buffer, byteOffset, byteLength), places[name]);
  }
  return body;
}

/**
 * Reads a body, whose arrays are views of it. Throws an Error that says what is wrong with it.
 * @param hiddenSizeOf H of a layer; undefined for one that is not there.
 */
export function decodeTokens(body: Buffer, hiddenSizeOf: (layer: number) => number | undefined): TokensForBank {
  if (body.length < headBytes) throw new Error(`tokens: expected at least ${headBytes} bytes, got ${body.length}`);
  const [layer, count, choices, types] = [0, 4, 8, 12].map((offset) => body.readUInt32LE(offset)) as [
    number,
    number,
    number,
    number,
  ];
  const [dtype, weightDType] = [floatDTypes[types % 65536], floatDTypes[Math.floor(types / 65536)]];
  if (dtype === undefined || weightDType === undefined) throw new Error(`tokens: expected two dtypes, got ${types}`);
  const hiddenSize = hiddenSizeOf(layer);
  if (hiddenSize === undefined) throw new Error(`tokens: layer ${layer} is not served`);
  const sizes = { count, choices, dtype, weightDType };
  const places = layout(sizes, hiddenSize);
  if (body.length !== places.end) {
    throw new Error(`tokens: expected ${places.end} bytes for ${count} tokens, got ${body.length}`);
  }
  const array = (name: "tokens" | "weights", type: FloatDType, length: number) =>
    new dtypes[type].raw(body.buffer as ArrayBuffer, body.byteOffset + places[name], length) as FloatArray;
  return {
    layer,
    ...sizes,
    tokens: array("tokens", dtype, count * hiddenSize),
    weights: array("weights", weightDType, count * choices),
    ids: new Int32Array(body.buffer, body.byteOffset + places.ids, count * choices),
  };
}
