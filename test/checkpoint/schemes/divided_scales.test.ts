import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { decodeHalves } from "../../../lib/core/tensors/half_arrays.js";
import { MoeLayer } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const root = join(import.meta.dirname, "..", "..", "golden", "quantised");

/** A golden fp8 checkpoint as GPTQModel writes it: scales by which codes are divided, and a field that says so. */
async function divided(name: string, meaning = "inverse") {
  const config = JSON.parse(readFileSync(join(root, name, "config.json"), "utf8"));
  config.quantization_config = { ...config.quantization_config, quant_method: "fp8", weight_scale_semantics: meaning };
  await using file = await SafetensorsFile.open(join(root, name, "model.safetensors"));
  const weights = new Map<string, SafetensorsInput>();
  for (const tensor of file.tensors.keys()) {
    const stored = await file.read(tensor);
    if (!/scale/.test(tensor)) weights.set(tensor, stored);
    else weights.set(tensor.replace(/weight_scale$/, "weight_scale_inv"), reciprocals(stored));
  }
  return { config, weights };
}

function reciprocals({ dtype, shape, data }: SafetensorsInput): SafetensorsInput {
  const values = dtype === "BF16" ? decodeHalves(data as Uint16Array, "bf16") : (data as Float32Array);
  return { dtype: "F32", shape, data: values.map((value) => 1 / value) };
}

describe.each(deviceNames)("fp8 with scales that are divided by, on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test.each(["fp8_blocks", "fp8_channel", "fp8_tensor", "fp8_blocks_shared"])("%s", async (name) => {
    await using expected = await SafetensorsFile.open(join(root, name, "expected.safetensors"));
    using directory = temporaryDirectory();
    await writeModel(directory.path, await divided(name));
    using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
    using x = device().tensor((await expected.read("x")).data as Float32Array, expected.info("x").shape);
    using y = layer.forward(x);
    const output = (await expected.read("output")).data as Float64Array;
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
  });
});

describe("refused", () => {
  const device = openForTests("reference");

  test("a divisor of 0", async () => {
    const model = await divided("fp8_channel");
    const name = "model.layers.0.mlp.experts.2.up_proj.weight_scale_inv";
    const { data } = model.weights.get(name) as SafetensorsInput;
    (data as Float32Array)[3] = 0;
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    const loading = MoeLayer.load(directory.path, { layer: 0, device: device() });
    await expectRejection(loading, "BAD_CHECKPOINT", /up_proj\.weight_scale_inv": expected .* other than 0, got 0/);
  });

  test("another meaning", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await divided("fp8_channel", "direct"));
    const loading = MoeLayer.load(directory.path, { layer: 0, device: device() });
    await expectRejection(loading, "BAD_CHECKPOINT", /weight_scale_semantics: expected "inverse", .*, got "direct"/);
  });
});
