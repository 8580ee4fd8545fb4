import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Device, encodeHalves } from "moe-kernels";
import { type SafetensorsInput, writeSafetensors } from "moe-kernels/safetensors";
import { drawnNumbers } from "../../common/sampling.js";

export interface ModelSizes {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly experts: number;
  readonly topK: number;
  readonly layers: number;
  readonly vocabulary: number;
}

const headSize = 128;

/** Writes a Qwen3-MoE with random weights in bfloat16, and without a tokenizer, into an empty directory. */
export async function writeRandomModel(directory: string, device: Device, sizes: ModelSizes): Promise<void> {
  const { hiddenSize, intermediateSize, experts, topK, layers, vocabulary } = sizes;
  // 32 heads of queries and 4 of keys at a width of 2048, as in Qwen3-30B-A3B.
  const heads = Math.max(1, Math.floor(hiddenSize / 64));
  const keyHeads = heads % 8 === 0 ? heads / 8 : 1;
  const config = {
    ...{ model_type: "qwen3_moe", num_hidden_layers: layers, hidden_size: hiddenSize, vocab_size: vocabulary },
    ...{ num_attention_heads: heads, num_key_value_heads: keyHeads, head_dim: headSize, rms_norm_eps: 1e-6 },
    ...{ num_experts: experts, num_experts_per_tok: topK, moe_intermediate_size: intermediateSize },
    ...{ norm_topk_prob: true, rope_theta: 1e6, torch_dtype: "bfloat16" },
  };
  await writeFile(join(directory, "config.json"), JSON.stringify(config));

  const largest = Math.max(vocabulary, intermediateSize, heads * headSize, experts) * hiddenSize;
  const numbers = await randomNumbers(device, largest + 2 ** 16, (3 / hiddenSize) ** 0.5);
  let drawn = 0;
  // All matrices are parts of the same numbers, from different places on: a model may be larger than memory.
  const matrix = (rows: number, columns: number): SafetensorsInput => {
    const begin = (drawn++ * 977) % 2 ** 16;
    return { dtype: "BF16", shape: [rows, columns], data: numbers.subarray(begin, begin + rows * columns) };
  };
  const norm = (width: number): SafetensorsInput => {
    return { dtype: "BF16", shape: [width], data: new Uint16Array(width).fill(0x3f80) };
  };
  const tensors: Record<string, SafetensorsInput> = {
    "model.embed_tokens.weight": matrix(vocabulary, hiddenSize),
    "model.norm.weight": norm(hiddenSize),
    "lm_head.weight": matrix(vocabulary, hiddenSize),
  };
  for (let layer = 0; layer < layers; layer++) {
    const ofLayer: Record<string, SafetensorsInput> = {
      input_layernorm: norm(hiddenSize),
      "self_attn.q_proj": matrix(heads * headSize, hiddenSize),
      "self_attn.k_proj": matrix(keyHeads * headSize, hiddenSize),
      "self_attn.v_proj": matrix(keyHeads * headSize, hiddenSize),
      "self_attn.o_proj": matrix(hiddenSize, heads * headSize),
      "self_attn.q_norm": norm(headSize),
      "self_attn.k_norm": norm(headSize),
      post_attention_layernorm: norm(hiddenSize),
      "mlp.gate": matrix(experts, hiddenSize),
    };
    for (let expert = 0; expert < experts; expert++) {
      ofLayer[`mlp.experts.${expert}.gate_proj`] = matrix(intermediateSize, hiddenSize);
      ofLayer[`mlp.experts.${expert}.up_proj`] = matrix(intermediateSize, hiddenSize);
      ofLayer[`mlp.experts.${expert}.down_proj`] = matrix(hiddenSize, intermediateSize);
    }
    for (const [name, tensor] of Object.entries(ofLayer)) tensors[`model.layers.${layer}.${name}.weight`] = tensor;
  }
  await writeSafetensors(join(directory, "model.safetensors"), tensors);
}

/** Bits of bfloat16 for numbers from -limit to limit. */
async function randomNumbers(device: Device, count: number, limit: number): Promise<Uint16Array> {
  const values = await drawnNumbers(device, 1, count);
  return encodeHalves(
    values.map((value) => (2 * value - 1) * limit),
    "bf16",
  );
}
