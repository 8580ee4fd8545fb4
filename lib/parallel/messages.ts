import { dtypes, type FloatDType, floatDTypes } from "../core/tensors/dtype.js";
import { takeMemory } from "./memory.js";

// The body of a frame of tokens: a head of four little-endian u32 (layer, T, k, the numbers of both dtypes in 16 bits each), then
// the tokens [T, H], the weights [T, k] and the ids [T, k], each from a multiple of 8 bytes on. The answer is the share
// [T, H] in the dtype of the tokens.

const headBytes = 16;

export type FloatArray = Float32Array | Float64Array | Uint16Array;

/** What the head says. */
export interface TokensHead {
  readonly layer: number;
  /** T. */
  readonly count: number;
  /** k, choices of a token. */
  readonly choices: number;
  /** dtype of the tokens. */
  readonly dtype: FloatDType;
  readonly weightDType: FloatDType;
}

/** Tokens for a bank, with their routing; the arrays are views of the body. */
export interface TokensMessage extends TokensHead {
  readonly body: Buffer;
  /** [T, H], stored bits. */
  readonly tokens: FloatArray;
  /** [T, k]. */
  readonly weights: FloatArray;
  /** [T, k]; -1 for an expert of another bank. */
  readonly ids: Int32Array;
}

/** Where the arrays of a body begin, and where it ends. */
function layout({ count, choices, dtype, weightDType }: Omit<TokensHead, "layer">, hiddenSize: number) {
  const aligned = (offset: number) => Math.ceil(offset / 8) * 8;
  const weights = aligned(headBytes + count * hiddenSize * dtypes[dtype].bytes);
  const ids = aligned(weights + count * choices * dtypes[weightDType].bytes);
  return { tokens: headBytes, weights, ids, end: ids + count * choices * 4 };
}

/** Bytes of the longest body. */
export function longestTokens(count: number, choices: number, hiddenSize: number): number {
  return layout({ count, choices, dtype: "f64", weightDType: "f64" }, hiddenSize).end;
}

/** The message of a body, which is in aligned memory and as long as its head says. */
function messageIn(body: Buffer, head: TokensHead, hiddenSize: number): TokensMessage {
  const { count, choices, dtype, weightDType } = head;
  const places = layout(head, hiddenSize);
  const memory = body.buffer as ArrayBuffer;
  const floats = (name: "tokens" | "weights", type: FloatDType, length: number) =>
    new dtypes[type].raw(memory, body.byteOffset + places[name], length) as FloatArray;
  return {
    ...head,
    body,
    tokens: floats("tokens", dtype, count * hiddenSize),
    weights: floats("weights", weightDType, count * choices),
    ids: new Int32Array(memory, body.byteOffset + places.ids, count * choices),
  };
}

/** A message whose arrays are to be filled. */
export function newTokens(head: TokensHead, hiddenSize: number): TokensMessage {
  const { weights, ids, end } = layout(head, hiddenSize);
  const body = takeMemory(end);
  // What lies between the arrays is sent too.
  for (const begin of [weights, ids]) body.fill(0, begin - 8, begin);
  const types = floatDTypes.indexOf(head.dtype) + 65536 * floatDTypes.indexOf(head.weightDType);
  [head.layer, head.count, head.choices, types].forEach((value, index) => {
    body.writeUInt32LE(value, 4 * index);
  });
  return messageIn(body, head, hiddenSize);
}

/**
 * Reads a body. Throws an Error that says what is wrong with it.
 * @param hiddenSizeOf H of a layer; undefined for one that is not there.
 */
export function readTokens(body: Buffer, hiddenSizeOf: (layer: number) => number | undefined): TokensMessage {
  if (body.length < headBytes) throw new Error(`tokens: expected at least ${headBytes} bytes, got ${body.length}`);
  const number = (index: number) => body.readUInt32LE(4 * index);
  const [layer, count, choices, types] = [number(0), number(1), number(2), number(3)];
  const [dtype, weightDType] = [floatDTypes[types % 65536], floatDTypes[Math.floor(types / 65536)]];
  if (dtype === undefined || weightDType === undefined) throw new Error(`tokens: expected two dtypes, got ${types}`);
  const hiddenSize = hiddenSizeOf(layer);
  if (hiddenSize === undefined) throw new Error(`tokens: layer ${layer} is not served`);
  const head = { layer, count, choices, dtype, weightDType };
  const { end } = layout(head, hiddenSize);
  if (body.length === end) return messageIn(body, head, hiddenSize);
  throw new Error(`tokens: expected ${end} bytes for ${count} tokens, got ${body.length}`);
}
