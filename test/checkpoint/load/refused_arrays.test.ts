import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { quantizeToGguf } from "../../../lib/checkpoint/quantize/gguf/quantize_to_gguf.js";
import { quantizeCheckpoint } from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { openModel } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { refuseArrays } from "../../support/refused_arrays.js";
import { randomLayer, writeOne } from "../support/gguf_layer.js";
import { families, writeModel } from "../support/gguf_models.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// JavaScript has no memory for one array after the other: each time, an error says for which tensor.

const device = openForTests("cpu", { threads: 1 });

async function expectNamed(work: () => Promise<unknown>, place: RegExp, least = 4096): Promise<void> {
  const errors = await refuseArrays(least, work);
  expect(errors.length).toBeGreaterThan(0);
  for (const error of errors) {
    expect(error).toMatchObject({ code: "OUT_OF_MEMORY", message: expect.stringMatching(place) });
    expect(error).toMatchObject({ message: expect.stringMatching(/no memory for .*\d+ .*bytes; /) });
  }
}

describe("GGUF", () => {
  test.each(["Q4_K", "Q6_K", "IQ2_S", "NVFP4", "Q8_0"] as const)("a weight in %s", async (type) => {
    using directory = temporaryDirectory();
    const { file } = randomLayer(new Random("refused"), { inner: 32, up: type, down: "F32", scaled: type === "NVFP4" });
    await using model = await openModel(writeOne(directory.path, file));
    const read = async () => {
      const { [Symbol.dispose]: dispose } = await model.weight("blk.0.ffn_up_exps.weight", {
        device: device(),
        shape: [3, 32, 256],
      });
      dispose.call(undefined);
    };
    await expectNamed(read, /model\.gguf: tensor "blk\.0\.ffn_up_exps\.weight": /, 1024);
  });
});

test.each([
  "gptq",
  "gptq_act_order",
  "awq",
  "int4_packed_stacked",
  "int4_packed_asymmetric",
  "bnb_nf4",
  "gpt_oss",
  "int8_packed",
])("checkpoints of %s", async (name) => {
  await using model = await openModel(join("test", "golden", "quantised", name));
  await expectNamed(
    async () => (await model.load(0, { device: device() })).dispose(),
    /\.safetensors: tensor ".*"/,
    512,
  );
});

test("quantised checkpoints and GGUF files while they are written", async () => {
  using directory = temporaryDirectory();
  const model = join(directory.path, "model");
  await writeModel(model, families.olmoe, { num_hidden_layers: 1, num_experts: 1, num_experts_per_tok: 1 });
  const options = { device: device(), scale: "largest", existing: "overwrite", onProgress: () => {} } as const;
  const place = /\.safetensors: tensor ".*": /;
  const out = join(directory.path, "out");
  await expectNamed(() => quantizeCheckpoint(model, { ...options, format: "int4_g32", out }), place, 2 ** 14);
  const file = `${out}.gguf`;
  await expectNamed(() => quantizeToGguf(model, { ...options, format: "q4_k", out: file }), place, 2 ** 14);
});
