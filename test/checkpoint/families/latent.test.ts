import { mkdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { quantizeCheckpoint } from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { MoeLayer, openModel } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { familyModelPath, familyTokens, readFamilyModel, readFamilyResults } from "../support/family_model.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Checkpoints whose routed experts work on a projection of the tokens.

describe.each(["nemotron_h_latent", "kimi_linear_latent"])("%s", (name) => {
  const device = openForTests("cpu");

  test("takes the memory that its files say", async () => {
    const { layer } = await readFamilyResults(name);
    await using model = await openModel(familyModelPath(name));
    const { weights } = await readFamilyModel(name);
    const sizes = [...weights].filter(([tensor]) => tensor.includes(`layers.${layer}.`)).map(([, { shape }]) => shape);
    const elements = sizes.reduce((sum, shape) => sum + shape.reduce((all, one) => all * one, 1), 0);
    const memory = await model.memory(layer, { dtype: "f32" });
    expect([memory.bytes, memory.fileBytes]).toEqual([4 * elements, 4 * elements]);
    using loaded = await MoeLayer.load(familyModelPath(name), { layer, device: device() });
    expect(loaded.description.latent?.size).toBe(14);
    expect(model.layer(layer).config.latent?.size).toBe(14);
  });
});

describe("checkpoints of Nemotron and Kimi K3", () => {
  const device = openForTests("cpu");

  test("projections in fp8 with a scale for the matrix stay in it", async () => {
    using directory = temporaryDirectory();
    const results = await readFamilyResults("nemotron_h_latent");
    const { config, weights } = await readFamilyModel("nemotron_h_latent");
    const changed = new Map(weights);
    const scales = { fc1_latent_proj: 0.25, fc2_latent_proj: 0.5 };
    for (const [module, scale] of Object.entries(scales)) {
      const name = `backbone.layers.3.mixer.${module}`;
      const { shape } = weights.get(`${name}.weight`) as { shape: readonly number[] };
      const [rows, columns] = shape as [number, number];
      // Codes of 0, 1, -1 and 2 in e4m3, and the same numbers as floats.
      const [codes, values] = [
        [0x00, 0x38, 0xb8, 0x40],
        [0, 1, -1, 2],
      ];
      const at = (index: number) => (index * 7 + (index % 5)) % 4;
      const data = Uint8Array.from({ length: rows * columns }, (_, index) => codes[at(index)] as number);
      const plain = Float32Array.from({ length: rows * columns }, (_, index) => scale * (values[at(index)] as number));
      weights.set(`${name}.weight`, { dtype: "F32", shape, data: plain });
      changed.set(`${name}.weight`, { dtype: "F8_E4M3", shape, data });
      changed.set(`${name}.weight_scale`, { dtype: "F32", shape: [], data: Float32Array.of(scale) });
      changed.set(`${name}.input_scale`, { dtype: "F32", shape: [], data: Float32Array.of(0.1) });
    }
    const quantization = { quantization_config: { quant_method: "modelopt", quant_algo: "FP8" } };
    for (const folder of ["plain", "fp8"]) mkdirSync(`${directory.path}/${folder}`);
    await writeModel(`${directory.path}/plain`, { config, weights });
    await writeModel(`${directory.path}/fp8`, { config: { ...config, ...quantization }, weights: changed });
    const load = (folder: string, dtype?: "f32") =>
      MoeLayer.load(`${directory.path}/${folder}`, { layer: 3, device: device(), ...(dtype && { dtype }) });
    using plain = await load("plain");
    using kept = await load("fp8");
    using floats = await load("fp8", "f32");
    expect(kept.description.formats).toMatchObject({ latentDown: "e4m3_channel_f32", latentUp: "e4m3_channel_f32" });
    expect(kept.description.formats.up).toBe("f32");
    const { x } = familyTokens(device(), results, "f32");
    const expected = await plain.forward(x).data();
    for (const layer of [kept, floats]) {
      expect(relativeError(await layer.forward(x).data(), expected)).toBeLessThanOrEqual(1e-6);
    }
    await kept.save(`${directory.path}/saved.safetensors`);
    using saved = await MoeLayer.load(`${directory.path}/saved.safetensors`, { device: device() });
    expect(saved.description).toEqual(kept.description);
    expect(await saved.forward(x).data()).toEqual(await kept.forward(x).data());
  });

  test("NaN among the codes of a projection is refused", async () => {
    using directory = temporaryDirectory();
    const { config, weights } = await readFamilyModel("nemotron_h_latent");
    const name = "backbone.layers.3.mixer.fc2_latent_proj";
    const data = new Uint8Array(18 * 14).fill(0x7f);
    weights.set(`${name}.weight`, { dtype: "F8_E4M3", shape: [18, 14], data });
    weights.set(`${name}.weight_scale`, { dtype: "F32", shape: [], data: Float32Array.of(1) });
    const quantization = { quantization_config: { quant_method: "modelopt", quant_algo: "FP8" } };
    await writeModel(directory.path, { config: { ...config, ...quantization }, weights });
    await expectRejection(
      MoeLayer.load(directory.path, { layer: 3, device: device() }),
      "BAD_CHECKPOINT",
      /fc2_latent_proj\.weight": expected numbers, got NaN at \[0, 0\]/,
    );
  });

  test("a layer that normalises the sum of its experts has no banks", async () => {
    const options = { layer: 1, device: device(), bank: { first: 0, count: 3 } };
    const message = /^bank: expected all 8 experts for latent\.norm, which normalises their sum, got 3/;
    await expectRejection(MoeLayer.load(familyModelPath("kimi_linear_latent"), options), "INVALID_ARGUMENT", message);
  });

  test("quantising leaves the projections as they are", async () => {
    using directory = temporaryDirectory();
    const results = await readFamilyResults("nemotron_h_latent");
    const target = `${directory.path}/int8`;
    const how = { format: "int8", scale: "largest", existing: "refuse", onProgress: () => {} } as const;
    const options = { out: target, device: device(), layers: [3], ...how };
    await quantizeCheckpoint(familyModelPath("nemotron_h_latent"), options);
    using layer = await MoeLayer.load(target, { layer: 3, device: device() });
    const { formats } = layer.description;
    expect(formats).toMatchObject({ up: "i8_channel_f32", latentDown: "f32", latentUp: "f32" });
    const { x } = familyTokens(device(), results, "f32");
    expect(relativeError(await layer.forward(x).data(), results.output)).toBeLessThanOrEqual(2e-2);
  });
});
