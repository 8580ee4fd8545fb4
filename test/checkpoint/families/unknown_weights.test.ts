import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { writeRandomModel } from "../support/random_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const config = {
  model_type: "qwen3_moe",
  num_hidden_layers: 1,
  hidden_size: 32,
  moe_intermediate_size: 16,
  num_experts: 4,
  num_experts_per_tok: 2,
};

const block = "model.layers.0.mlp";

describe("tensors that a layer's formula does not have", () => {
  const device = openForTests("reference");

  /** Loads the layer from a model that has another tensor, too. */
  async function loadWith(name: string, tensor: SafetensorsInput, given = {}): Promise<void> {
    using directory = temporaryDirectory();
    const plain = join(directory.path, "plain");
    await writeRandomModel(plain, config, {});
    const weights = new Map<string, SafetensorsInput>([[`${block}.${name}`, tensor]]);
    await using file = await SafetensorsFile.open(join(plain, "model.safetensors"));
    for (const own of file.tensors.keys()) weights.set(own, await file.read(own));
    await writeModel(directory.path, { config, weights });
    (await MoeLayer.load(directory.path, { layer: 0, device: device(), ...given })).dispose();
  }

  const ones = (...shape: number[]): SafetensorsInput => {
    return { dtype: "F32", shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1) };
  };

  const zeros = { words: "zeros", f32: -0, f16: 0x8000, bf16: 0 };
  const allOnes = { words: "ones", f32: 1, f16: 0x3c00, bf16: 0x3f80 };

  test.each([
    ["experts.3.up_proj.bias", 16, zeros, allOnes],
    ["experts.0.down_proj.bias", 32, zeros, allOnes],
    ["gate.bias", 4, zeros, allOnes],
    ["gate.e_score_correction_bias", 4, zeros, allOnes],
    ["expert_bias", 4, zeros, allOnes],
    ["router.per_expert_scale", 4, allOnes, zeros],
    ["per_expert_scale", 4, allOnes, zeros],
  ])("%s is refused unless its values change nothing", async (name, size, neutral, other) => {
    const message = new RegExp(
      `tensor "${block}.${name}": expected no such tensor, or ${neutral.words}, because .* MoeLayer.load`,
    );
    const withValues = async ({ f32, f16, bf16 }: typeof zeros, check: (loading: Promise<void>) => Promise<void>) => {
      const shape = [size];
      await check(loadWith(name, { dtype: "F32", shape, data: new Float32Array(size).fill(f32) }));
      await check(loadWith(name, { dtype: "F16", shape, data: new Uint16Array(size).fill(f16) }));
      await check(loadWith(name, { dtype: "BF16", shape, data: new Uint16Array(size).fill(bf16) }));
    };
    await withValues(neutral, (loading) => expect(loading).resolves.toBeUndefined());
    await withValues(other, (loading) => expectRejection(loading, "BAD_CHECKPOINT", message));
  });

  test.each([
    ["shared_expert.up_proj.weight", [16, 32]],
    ["shared_experts.up_proj.qweight", [4, 16]],
    ["shared_mlp.w3.weight_packed", [16, 4]],
    ["shared_expert_gate.weight", [1, 32]],
  ])("%s is refused", async (name, shape) => {
    const message = new RegExp(
      `tensor "${block}.${name}": expected no such tensor, because the layer's formula has none`,
    );
    await expectRejection(loadWith(name, ones(...shape)), "BAD_CHECKPOINT", message);
  });

  test("tensors that change no result are not", async () => {
    await expect(loadWith("experts.3.up_proj.input_scale", ones())).resolves.toBeUndefined();
  });

  test("a caller who says what the layer computes may leave them out", async () => {
    const matrix = (name: string) => `model.layers.{layer}.mlp.experts.{e}.${name}_proj`;
    const { hidden_size: hiddenSize, moe_intermediate_size: intermediateSize, num_experts: numExperts } = config;
    const given = {
      config: { hiddenSize, intermediateSize, numExperts, topK: 2 },
      tensors: {
        router: "model.layers.{layer}.mlp.gate.weight",
        experts: { gate: `${matrix("gate")}.weight`, up: `${matrix("up")}.weight`, down: `${matrix("down")}.weight` },
      },
    };
    await expect(loadWith("gate.bias", ones(4), given)).resolves.toBeUndefined();
    await expect(loadWith("shared_expert.up_proj.weight", ones(16, 32), given)).resolves.toBeUndefined();
  });
});
