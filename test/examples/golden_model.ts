import { SafetensorsFile } from "moe-kernels/safetensors";

/** The families that have a small model with random weights. */
export const families = [
  ...["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe"],
  ...["glm4_moe", "deepseek_v2", "deepseek_v3", "kimi_k2"],
] as const;

export const golden = (family: string) => `test/golden/language_models/${family}`;

/** A model's tokens, and the logits [T, V] after each of them. */
export async function expected(family: string) {
  await using file = await SafetensorsFile.open(`${golden(family)}/expected.safetensors`);
  const ids = [...((await file.read("ids")).data as Int32Array)];
  return { ids, logits: (await file.read("logits")).data as Float32Array };
}

/** A tokenizer of the words w0, w1, ... for the vocabulary of these models. */
export const words = {
  ...{ version: "1.0", added_tokens: [], normalizer: null, post_processor: null, decoder: null },
  pre_tokenizer: { type: "WhitespaceSplit" },
  model: {
    type: "WordLevel",
    vocab: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`w${i}`, i])),
    unk_token: "w0",
  },
};
