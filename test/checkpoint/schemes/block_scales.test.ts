import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigFields } from "../../../lib/checkpoint/config_fields.js";
import { Model } from "../../../lib/checkpoint/model.js";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { Quantization } from "../../../lib/checkpoint/schemes/quantization.js";
import { MoeLayer } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { type ModelFiles, writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

describe("other ways to store the same weights", () => {
  const device = openForTests("reference");

  async function results(model: ModelFiles): Promise<Float32Array> {
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
    const { hiddenSize } = layer.description;
    const x = device().tensor(new Random("x").normals(4 * hiddenSize), [4, hiddenSize]);
    return (await layer.forward(x).data()) as Float32Array;
  }

  /** Tools that do not know e8m0, or I8, view the bytes as U8. */
  test.each([
    ["fp8_blocks_e8m0", ["F8_E8M0"]],
    ["deepseek_mxfp4", ["F8_E8M0"]],
    ["deepseek_mxfp4", ["F8_E8M0", "I8"]],
  ])("%s with %j as U8", async (name, viewed) => {
    const path = join(import.meta.dirname, "..", "..", "golden", "quantised", name);
    const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
    await using file = await SafetensorsFile.open(join(path, "model.safetensors"));
    const weights = new Map<string, SafetensorsInput>();
    const others = new Map<string, SafetensorsInput>();
    let count = 0;
    for (const tensor of file.tensors.keys()) {
      const own = await file.read(tensor);
      weights.set(tensor, own);
      const bytes = new Uint8Array(own.data.buffer, own.data.byteOffset, own.data.byteLength);
      const isViewed = viewed.includes(own.dtype);
      others.set(tensor, isViewed ? { dtype: "U8", shape: own.shape, data: bytes } : own);
      if (isViewed) count++;
    }
    expect(count).toBeGreaterThan(0);
    expect(await results({ config, weights: others })).toEqual(await results({ config, weights }));
  });

  test.each([160, 32])("stacks whose gate and up of %i rows were quantised one by one", async (I) => {
    const [H, E] = [192, 3];
    const random = new Random(`halves ${I}`);
    const matrix = (N: number, K: number) => {
      const grid = [Math.ceil(N / 128), Math.ceil(K / 128)] as const;
      const codes = Uint8Array.from({ length: N * K }, () => random.integer(0x20, 0x38));
      const scales = Float32Array.from({ length: grid[0] * grid[1] }, () => 0.1 + random.uniform());
      return { shape: [N, K] as const, codes, grid, scales };
    };
    type Matrix = ReturnType<typeof matrix>;
    const router: SafetensorsInput = { dtype: "F32", shape: [E, H], data: random.normals(E * H) };
    const block = "model.layers.0.mlp";
    const single = new Map([[`${block}.gate.weight`, router]]);
    const stacked = new Map(single);
    const [gateUps, downs]: [Matrix[], Matrix[]] = [[], []];
    for (let e = 0; e < E; e++) {
      const [gate, up, down] = [matrix(I, H), matrix(I, H), matrix(H, I)];
      for (const [name, { shape, codes, grid, scales }] of Object.entries({ gate, up, down })) {
        const weight = `${block}.experts.${e}.${name}_proj.weight`;
        single.set(weight, { dtype: "F8_E4M3", shape, data: codes });
        single.set(`${weight}_scale_inv`, { dtype: "F32", shape: grid, data: scales });
      }
      gateUps.push(gate, up);
      downs.push(down);
    }
    for (const [name, matrices] of Object.entries({ gate_up_proj: gateUps, down_proj: downs })) {
      const [{ shape, grid }] = matrices as [Matrix];
      const count = matrices.length / E;
      const data = Uint8Array.from(matrices.flatMap(({ codes }) => [...codes]));
      const scales = Float32Array.from(matrices.flatMap((one) => [...one.scales]));
      const stack = `${block}.experts.${name}`;
      stacked.set(stack, { dtype: "F8_E4M3", shape: [E, count * shape[0], shape[1]], data });
      stacked.set(`${stack}_scale_inv`, { dtype: "F32", shape: [E, count * grid[0], grid[1]], data: scales });
    }
    const config = {
      model_type: "qwen3_moe",
      num_hidden_layers: 1,
      hidden_size: H,
      moe_intermediate_size: I,
      num_experts: E,
      num_experts_per_tok: 2,
      quantization_config: { quant_method: "fp8", weight_block_size: [128, 128] },
    };
    expect(await results({ config, weights: stacked })).toEqual(await results({ config, weights: single }));
  });
});

test("LFM2-MoE as tools take it apart, by the names of Transformers", () => {
  const model = new Model(new ConfigFields("config.json", { model_type: "lfm2_moe" }), new Quantization());
  const names =
    /^model\.layers\.2\.feed_forward\.(gate\.weight|expert_bias|experts\.0\.(gate|up|down)_proj\.weight_packed)$/;
  const { experts } = model.tensors(2, (name) => names.test(name));
  expect(experts.up.name).toBe("model.layers.2.feed_forward.experts.{e}.up_proj.weight");
});
