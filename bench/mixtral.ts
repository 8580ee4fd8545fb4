import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type SafetensorsInput, writeSafetensors } from "#lib/checkpoint/safetensors/index.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";

/** Writes a model of one Mixtral layer, as large as the shape says. Its experts have equal weights. */
export async function writeMixtral(folder: string, config: MoeLayerConfig): Promise<void> {
  const { hiddenSize, intermediateSize, numExperts, topK } = config;
  const names = { model_type: "mixtral", num_hidden_layers: 1, hidden_act: "silu" };
  const sizes = { hidden_size: hiddenSize, intermediate_size: intermediateSize };
  const experts = { num_local_experts: numExperts, num_experts_per_tok: topK };
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...names, ...sizes, ...experts }));
  const matrix = (rows: number, columns: number): SafetensorsInput => ({
    dtype: "BF16",
    shape: [rows, columns],
    data: new Uint16Array(rows * columns).map((_, index) => 0x3c00 + ((index * 31) & 0xff)),
  });
  const [wide, tall] = [matrix(intermediateSize, hiddenSize), matrix(hiddenSize, intermediateSize)];
  const block = "model.layers.0.block_sparse_moe";
  const tensors = new Map([[`${block}.gate.weight`, matrix(numExperts, hiddenSize)]]);
  for (let expert = 0; expert < numExperts; expert++) {
    for (const name of ["w1", "w2", "w3"]) {
      tensors.set(`${block}.experts.${expert}.${name}.weight`, name === "w2" ? tall : wide);
    }
  }
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}
