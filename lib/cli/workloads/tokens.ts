import { badCheckpoint } from "../../checkpoint/bad_checkpoint.js";
import { SafetensorsFile } from "../../checkpoint/safetensors/file.js";
import { MoeError } from "../../core/errors.js";
import { decodeHalves } from "../../core/tensors/half_arrays.js";
import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import { Random } from "../../testing/inputs/random.js";
import { randomTokens } from "../../testing/inputs/random_layer.js";
import type { Workload } from "./workload.js";

/** A workload's tokens, and the expected results if known. */
export type TokenSource = Pick<Workload, "tokens" | "expectation">;

/** `count` tokens of normally distributed values, and with any ids. */
export function seededTokens(count: number, seed: number): TokenSource {
  return {
    tokens: (hiddenSize) => ({
      origin: `random, seed ${seed}`,
      x: randomTokens(count, hiddenSize, seed),
      routerInput: randomTokens(count, hiddenSize, `of the router ${seed}`),
      shape: [count, hiddenSize],
      tokenIds(vocabularySize) {
        const random = new Random(`token ids ${seed}`);
        return Int32Array.from({ length: count }, () => random.integer(0, vocabularySize - 1));
      },
    }),
  };
}

/**
 * The tokens in a safetensors file: its tensor `x` [T, H] or [B, S, H], and the expected `output` of the same shape, if
 * the file has one. The tensor `router_input` of that shape is what the router of a layer with `separateRouterInput` reads,
 * `token_ids` [T] or [B, S] are the ids by which a layer with `hashRouting` chooses experts.
 */
export async function tokensOfFile(path: string): Promise<TokenSource> {
  await using file = await SafetensorsFile.open(path);
  const { shape } = file.info("x");
  if (shape.length !== 2 && shape.length !== 3) {
    throw badCheckpoint(path, `tensor "x": expected shape [T, H] or [B, S, H], got ${shapeText(shape)}`);
  }
  const x = await readFloats(file, "x");
  const routerInput = file.tensors.has("router_input") ? await readLike(file, "router_input", shape) : undefined;
  const tokenIds = file.tensors.has("token_ids") ? await readIds(file, shape.slice(0, -1)) : undefined;
  const expectation = file.tensors.has("output") ? { output: await readLike(file, "output", shape) } : undefined;
  return {
    ...(expectation && { expectation }),
    tokens(hiddenSize) {
      if (shape.at(-1) !== hiddenSize) {
        const problem = `x: expected shape [T, ${hiddenSize}] for this layer, got ${shapeText(shape)} in ${path}`;
        throw new MoeError("SHAPE_MISMATCH", problem);
      }
      return { origin: path, x, routerInput, shape, tokenIds: () => tokenIds };
    },
  };
}

async function readLike(file: SafetensorsFile, name: string, expected: Shape): Promise<Float32Array | Float64Array> {
  checkLike(file, name, expected);
  return await readFloats(file, name);
}

function checkLike(file: SafetensorsFile, name: string, expected: Shape): void {
  const { shape } = file.info(name);
  if (sameShape(shape, expected)) return;
  throw badCheckpoint(
    file.path,
    `tensor "${name}": expected shape ${shapeText(expected)} like "x", got ${shapeText(shape)}`,
  );
}

async function readIds(file: SafetensorsFile, expected: Shape): Promise<Int32Array> {
  checkLike(file, "token_ids", expected);
  const tensor = await file.read("token_ids");
  if (tensor.dtype === "I32") return tensor.data;
  if (tensor.dtype !== "I64") {
    throw badCheckpoint(file.path, `tensor "token_ids": expected I32 or I64, got ${tensor.dtype}`);
  }
  return Int32Array.from(tensor.data, (id, index) => {
    if (BigInt.asIntN(32, id) === id) return Number(id);
    throw badCheckpoint(file.path, `tensor "token_ids": expected ids of 32 bits, got ${id} at ${index}`);
  });
}

async function readFloats(file: SafetensorsFile, name: string): Promise<Float32Array | Float64Array> {
  const tensor = await file.read(name);
  if (tensor.dtype === "F32" || tensor.dtype === "F64") return tensor.data;
  if (tensor.dtype === "F16") return decodeHalves(tensor.data, "f16");
  if (tensor.dtype === "BF16") return decodeHalves(tensor.data, "bf16");
  throw badCheckpoint(file.path, `tensor "${name}": expected F32, F64, F16 or BF16, got ${tensor.dtype}`);
}
