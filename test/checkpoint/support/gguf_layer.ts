import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type GgufType, ggufByteLength, ggufTypes } from "../../../lib/checkpoint/gguf/types.js";
import { fromF16, toF16 } from "../../../lib/core/tensors/dtype.js";
import { encodeHalves } from "../../../lib/core/tensors/half_arrays.js";
import type { Random } from "../../../lib/testing/inputs/random.js";
import { type GgufInput, type MetadataValue, rawGguf, type TensorInput } from "../../support/gguf.js";
import { type DecodedType, decodeBlocks, halfPlaces, writeDividedHalf } from "../../support/gguf_blocks.js";

/** Random blocks whose values are around 0 and of ordinary size. */
function randomBlocks(random: Random, type: DecodedType | "F32" | "F16", shape: readonly number[]): Uint8Array {
  const size = ggufByteLength(type, shape) as number;
  if (type === "F32") return new Uint8Array(Float32Array.from(random.normals(size / 4, 0.1)).buffer);
  if (type === "F16") return new Uint8Array(encodeHalves(random.normals(size / 2, 0.1), "f16").buffer);
  const blocks = new Uint8Array(size).map(() => random.integer(0, 255));
  const view = new DataView(blocks.buffer);
  const { bytes } = ggufTypes[type];
  for (let begin = 0; begin < size; begin += bytes) {
    const half = () => toF16((0.5 + random.uniform()) * 2e-3);
    for (const place of halfPlaces[type]) view.setUint16(begin + place, half(), true);
    if (type === "IQ1_M") writeDividedHalf(view, begin, half());
    if (type === "MXFP4") blocks[begin] = random.integer(122, 126);
    if (type === "NVFP4") for (let group = 0; group < 4; group++) blocks[begin + group] = random.integer(0x10, 0x28);
    // What ggml adds is about minus half of what the codes give.
    if (type === "Q4_1" || type === "Q5_1") view.setUint16(begin + 2, toF16(-0.01), true);
  }
  return blocks;
}

/** The values of a tensor of one of these types. */
export function valuesOf(type: DecodedType | "F32" | "F16", data: Uint8Array): Float64Array {
  if (type === "F32") return Float64Array.from(new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4));
  if (type === "F16") return decodeF16(data);
  return decodeBlocks(type, data, ggufTypes[type as GgufType]);
}

function decodeF16(data: Uint8Array): Float64Array {
  return Float64Array.from(new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2), fromF16);
}

export type LayerType = DecodedType | "F32" | "F16";

export interface RandomLayer {
  readonly hidden?: number;
  readonly inner?: number;
  readonly experts?: number;
  readonly gate?: LayerType;
  readonly up?: LayerType;
  readonly down?: LayerType;
  /** The shared expert's width, and the type of its matrices. */
  readonly shared?: number;
  readonly sharedType?: LayerType;
  /** Gate and up in one tensor. */
  readonly fused?: boolean;
  /** Each expert in tensors of its own. */
  readonly single?: boolean;
  /** A float32 for each expert's matrix. */
  readonly scaled?: boolean;
  /** As a Gemma 4. */
  readonly gemma?: boolean;
  readonly metadata?: Readonly<Record<string, MetadataValue>>;
}

/** The tensors of a layer 0 of random weights as a Qwen2-MoE or as another model, with the values that they stand for. */
export function randomLayer(random: Random, options: RandomLayer) {
  const { hidden = 256, inner = 256, experts = 3, gate = "Q4_K", up = gate, down = gate, shared = 0 } = options;
  const tensors: TensorInput[] = [];
  /** The values by name, decoded when they are asked for: that is slow. */
  const values = new Map<string, () => Float64Array>();
  const add = (name: string, type: LayerType, shape: readonly number[]) => {
    const data = randomBlocks(random, type, shape);
    tensors.push({ name: `blk.0.${name}`, type, shape, data });
    values.set(name, () => valuesOf(type, data));
  };
  add("ffn_gate_inp.weight", "F32", [experts, hidden]);
  const matrix = (name: string, type: LayerType, rows: number, columns: number) => {
    if (options.single) {
      for (let e = 0; e < experts; e++) add(`ffn_${name}.${e}.weight`, type, [rows, columns]);
      return;
    }
    add(`ffn_${name}_exps.weight`, type, [experts, rows, columns]);
    if (!options.scaled) return;
    const scales = Float32Array.from({ length: experts }, () => 0.5 + random.uniform());
    const data = new Uint8Array(scales.buffer);
    tensors.push({ name: `blk.0.ffn_${name}_exps.scale`, type: "F32", shape: [experts], data });
    const whole = `ffn_${name}_exps.weight`;
    const decode = values.get(whole) as () => Float64Array;
    values.set(whole, () =>
      decode().map((value, index) => value * (scales[Math.floor(index / (rows * columns))] as number)),
    );
  };
  if (options.fused) matrix("gate_up", gate, 2 * inner, hidden);
  else {
    matrix("gate", gate, inner, hidden);
    matrix("up", up, inner, hidden);
  }
  matrix("down", down, hidden, inner);
  if (options.gemma) {
    add("ffn_gate_inp.scale", "F32", [hidden]);
    add("ffn_down_exps.scale", "F32", [experts]);
    // The dense block beside the experts is no part of the layer.
    for (const name of ["gate", "up"]) add(`ffn_${name}.weight`, "F32", [inner, hidden]);
    add("ffn_down.weight", "F32", [hidden, inner]);
  }
  if (shared > 0) {
    const type = options.sharedType ?? gate;
    add("ffn_gate_shexp.weight", type, [shared, hidden]);
    add("ffn_up_shexp.weight", type, [shared, hidden]);
    add("ffn_down_shexp.weight", type, [hidden, shared]);
    add("ffn_gate_inp_shexp.weight", "F32", [hidden]);
  }
  const architecture = options.gemma ? "gemma4" : shared > 0 ? "qwen2moe" : "qwen3moe";
  const keys = {
    block_count: 1,
    embedding_length: hidden,
    expert_count: experts,
    expert_used_count: 2,
    expert_feed_forward_length: inner,
    feed_forward_length: 4 * inner,
    ...(shared > 0 && { expert_shared_feed_forward_length: shared }),
    ...(options.gemma && { "attention.layer_norm_rms_epsilon": { type: "f32", value: 1e-6 } as const }),
  };
  const metadata = {
    "general.architecture": architecture,
    ...Object.fromEntries(Object.entries(keys).map(([key, value]) => [`${architecture}.${key}`, value])),
    ...options.metadata,
  };
  const file: GgufInput & { tensors: TensorInput[] } = { metadata, tensors };
  return { file, values, sizes: { hidden, inner, experts, shared } };
}

/** Writes a model in one file; returns its path. */
export function writeOne(directory: string, file: GgufInput, name = "model.gguf"): string {
  const path = join(directory, name);
  writeFileSync(path, rawGguf(file));
  return path;
}

/** Writes a model in three files: metadata only, and the tensors by turns; returns the first one's path. */
export function writeSplit(directory: string, { metadata, tensors = [] }: GgufInput): string {
  const name = (index: number) => join(directory, `model-0000${index + 1}-of-00003.gguf`);
  for (let index = 0; index < 3; index++) {
    const split = {
      "split.no": { type: "u16", value: index },
      "split.count": { type: "u16", value: 3 },
      "split.tensors.count": { type: "i32", value: tensors.length },
    } as const;
    const own = tensors.filter((_, place) => index > 0 && place % 2 === index - 1);
    writeFileSync(name(index), rawGguf({ metadata: { ...(index === 0 && metadata), ...split }, tensors: own }));
  }
  return name(0);
}
