import { join } from "node:path";
import { decodeHalves } from "moe-kernels";
import { SafetensorsFile } from "moe-kernels/safetensors";
import { type MetadataValue, rawGguf, type TensorInput } from "../support/gguf.js";

/** What llama.cpp calls the tensors of a layer, and the others. */
const ofLayer: Readonly<Record<string, string>> = {
  "input_layernorm.weight": "attn_norm.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "mlp.gate.weight": "ffn_gate_inp.weight",
  "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
};
const others: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

/** @param own names of a family's own. */
function nameOf(name: string, own: Readonly<Record<string, string>>): string {
  const [, layer, rest = ""] = /^model\.layers\.(\d+)\.(.*)$/.exec(name) ?? [];
  if (layer === undefined) return others[name] as string;
  const byRule = rest
    .replace(/^self_attn\.([qkv])_proj/, "attn_$1")
    .replace(/^mlp\.experts\.(\w+)_proj/, "ffn_$1_exps")
    .replace(/^mlp\.shared_experts\.(\w+)_proj/, "ffn_$1_shexp")
    .replace(/^mlp\.(\w+)_proj/, "ffn_$1");
  return `blk.${layer}.${own[rest] ?? ofLayer[rest] ?? byRule}`;
}

export interface FloatTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The tensors of a model's directory, experts stacked, as llama.cpp's convert_hf_to_gguf.py names them. */
export async function convertedTensors(
  directory: string,
  own: Readonly<Record<string, string>>,
): Promise<readonly FloatTensor[]> {
  await using file = await SafetensorsFile.open(join(directory, "model.safetensors"));
  const found = new Map<string, { shape: readonly number[]; parts: Float32Array[] }>();
  for (const [name, { shape }] of file.tensors) {
    // Of every expert the same name, in the order of their numbers.
    const stacked = name.replace(/(mlp\.experts)\.\d+\./, "$1.");
    const values = decodeHalves((await file.read(name)).data as Uint16Array, "bf16");
    const parts = [...(found.get(stacked)?.parts ?? []), values];
    found.set(stacked, { shape: stacked === name ? shape : [parts.length, ...shape], parts });
  }
  return [...found].map(([name, { shape, parts }]) => {
    return { name: nameOf(name, own), shape, values: Float32Array.from(parts.flatMap((part) => [...part])) };
  });
}

/** A GGUF file in float32. @param keys without the architecture. */
export function floatGguf(
  architecture: string,
  keys: Readonly<Record<string, MetadataValue | undefined>>,
  tensors: readonly FloatTensor[],
): Buffer {
  const own = Object.entries(keys).flatMap(([key, value]) => {
    return value === undefined ? [] : [[`${architecture}.${key}`, value] as const];
  });
  return rawGguf({
    metadata: { "general.architecture": architecture, ...Object.fromEntries(own) },
    tensors: tensors.map(({ name, shape, values }): TensorInput => {
      return { name, type: "F32", shape, data: new Uint8Array(values.buffer) };
    }),
  });
}
