import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../../lib/core/device/device.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import type { ModelFiles } from "./model_directory.js";

const root = join(import.meta.dirname, "..", "..", "golden", "families");

/** The folders of test/golden/families. */
export const familyModelNames: readonly string[] = readdirSync(root).toSorted();

export const familyModelPath = (name: string): string => join(root, name);

/** What the authors' code computed for a model's layer. */
export interface FamilyResults {
  readonly layer: number;
  /** Shape of x and output: [B, S, H]. */
  readonly shape: readonly number[];
  readonly x: Float32Array;
  /** What the router read, if that is not x. */
  readonly routerInput: Float32Array | undefined;
  /** [B, S], the tokens' ids in the vocabulary, if they choose the experts. */
  readonly tokenIds: Int32Array | undefined;
  /** [B*S, k], -1 if the expert was full. */
  readonly ids: Int32Array;
  readonly weights: Float64Array;
  readonly output: Float64Array;
}

export async function readFamilyResults(name: string): Promise<FamilyResults> {
  await using file = await SafetensorsFile.open(join(root, name, "expected.safetensors"));
  const read = async (tensor: string) => (await file.read(tensor)).data;
  return {
    layer: Number(file.metadata.layer),
    shape: file.info("x").shape,
    x: (await read("x")) as Float32Array,
    routerInput: file.tensors.has("router_input") ? ((await read("router_input")) as Float32Array) : undefined,
    tokenIds: file.tensors.has("token_ids") ? ((await read("token_ids")) as Int32Array) : undefined,
    ids: (await read("ids")) as Int32Array,
    weights: (await read("weights")) as Float64Array,
    output: (await read("output")) as Float64Array,
  };
}

/** The tokens of a model's results on a device, those that the router reads, and what a forward and `route` need besides. */
export function familyTokens<D extends FloatDType>(device: Device, results: FamilyResults, dtype: D) {
  const upload = (values: Float32Array) => device.tensor(Float64Array.from(values), results.shape, dtype);
  const x = upload(results.x);
  const routerInput = results.routerInput && upload(results.routerInput);
  const { tokenIds } = results;
  return { x, read: routerInput ?? x, options: { routerInput, tokenIds }, routeOptions: { tokenIds } };
}

/** A copy of the model in memory, to modify. */
export async function readFamilyModel(name: string): Promise<ModelFiles & { weights: Map<string, SafetensorsInput> }> {
  const config = JSON.parse(readFileSync(join(root, name, "config.json"), "utf8"));
  await using file = await SafetensorsFile.open(join(root, name, "model.safetensors"));
  const weights = new Map<string, SafetensorsInput>();
  for (const tensor of file.tensors.keys()) weights.set(tensor, await file.read(tensor));
  return { config, weights };
}

/** A float32 Mixtral with its experts as Transformers 5 holds them in memory, gate rows before up rows. */
export function stackExperts(weights: ReadonlyMap<string, SafetensorsInput>): Map<string, SafetensorsInput> {
  const stacked = new Map<string, SafetensorsInput>();
  const parts = new Map<string, SafetensorsInput[]>();
  for (const [name, tensor] of weights) {
    const [, block, expert, matrix] = /^(.*)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight$/.exec(name) ?? [];
    if (block === undefined) {
      stacked.set(name.replace("block_sparse_moe", "mlp"), tensor);
      continue;
    }
    const whole = `${block}.mlp.experts.${matrix === "w2" ? "down_proj" : "gate_up_proj"}`;
    const list = parts.get(whole) ?? [];
    list[matrix === "w2" ? Number(expert) : 2 * Number(expert) + (matrix === "w3" ? 1 : 0)] = tensor;
    parts.set(whole, list);
  }
  for (const [name, list] of parts) {
    const [rows, columns] = (list[0] as SafetensorsInput).shape as [number, number];
    const halves = name.endsWith("down_proj") ? 1 : 2;
    const data = Float32Array.from(list.flatMap((part) => [...(part.data as Float32Array)]));
    stacked.set(name, { dtype: "F32", shape: [list.length / halves, halves * rows, columns], data });
  }
  return stacked;
}

/** A float32 model whose experts are stacked with outputs first, with tensors for each expert's matrices instead. */
export function takeApart(weights: ReadonlyMap<string, SafetensorsInput>): Map<string, SafetensorsInput> {
  const single = new Map<string, SafetensorsInput>();
  for (const [name, tensor] of weights) {
    const [, block, matrix] = /^(.*?)(?:\.experts)?\.(gate|up|gate_up|down)_proj(?:\.weight)?$/.exec(name) ?? [];
    const [experts = 0, rows = 0, columns] = tensor.shape;
    if (block === undefined || columns === undefined) {
      single.set(name, tensor);
      continue;
    }
    const parts = (matrix as string).split("_");
    const shape = [rows / parts.length, columns];
    const size = (rows / parts.length) * columns;
    for (let part = 0; part < experts * parts.length; part++) {
      const data = (tensor.data as Float32Array).slice(part * size, (part + 1) * size);
      const own = `${block}.experts.${Math.floor(part / parts.length)}.${parts[part % parts.length]}_proj.weight`;
      single.set(own, { dtype: "F32", shape, data });
    }
  }
  return single;
}
