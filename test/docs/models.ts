import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { writeRandomModel } from "../checkpoint/support/random_model.js";

/** Writes tiny models under the names that programs in the documentation load. */
export async function writeModels(folder: string): Promise<void> {
  const sizes = { num_hidden_layers: 2, hidden_size: 64, moe_intermediate_size: 32, num_experts: 8 };
  await writeRandomModel(
    join(folder, "Qwen3-30B-A3B"),
    { ...sizes, model_type: "qwen3_moe", num_experts_per_tok: 2 },
    { layer: { "self_attn.q_proj.weight": [32 * 128, 64] } },
  );
  await writeRandomModel(
    join(folder, "Mixtral-8x7B-v0.1"),
    {
      ...{ model_type: "mixtral", num_hidden_layers: 2, hidden_size: 64, intermediate_size: 32 },
      ...{ num_local_experts: 8, num_experts_per_tok: 2 },
    },
    {},
  );
  await writeUnknownFamily(join(folder, "my-moe"), sizes);
}

async function writeUnknownFamily(path: string, sizes: object): Promise<void> {
  mkdirSync(path);
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...sizes, model_type: "my_moe" }));
  const tensor = (...shape: number[]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    const data = Float32Array.from({ length: size }, (_, index) => Math.sin(index) / 8);
    return { dtype: "F32", shape, data } as const;
  };
  await writeSafetensors(join(path, "model.safetensors"), {
    "layers.1.moe.router": tensor(8, 64),
    "layers.1.moe.gate_up": tensor(8, 64, 64),
    "layers.1.moe.down": tensor(8, 64, 32),
  });
}

/** Writes a model that `moe-kernels quantize` writes in every format of the documentation, as GGUF files too. */
export async function writeWholeModel(path: string): Promise<void> {
  const [hidden, intermediate, vocabulary] = [256, 256, 9];
  const square = ["q_proj", "k_proj", "v_proj", "o_proj"].map(
    (name) => [`self_attn.${name}.weight`, [hidden, hidden]] as const,
  );
  const vectors = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"];
  await writeRandomModel(
    path,
    {
      ...{ model_type: "olmoe", hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: 1 },
      ...{ num_experts: 2, num_experts_per_tok: 2, num_attention_heads: 4, vocab_size: vocabulary },
      ...{ max_position_embeddings: 16, rms_norm_eps: 1e-5, rope_theta: 1e4 },
    },
    {
      layer: Object.fromEntries([...square, ...vectors.map((name) => [`${name}.weight`, [hidden]] as const)]),
      model: {
        "model.embed_tokens.weight": [vocabulary, hidden],
        "model.norm.weight": [hidden],
        "lm_head.weight": [vocabulary, hidden],
      },
    },
  );
}
