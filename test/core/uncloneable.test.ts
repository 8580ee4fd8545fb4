import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { MessageChannel } from "node:worker_threads";
import { expect, test } from "vitest";
import * as gguf from "../../lib/checkpoint/gguf/index.js";
import * as safetensors from "../../lib/checkpoint/safetensors/index.js";
import * as exported from "../../lib/index.js";
import * as testing from "../../lib/testing/index.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { rawGguf } from "../support/gguf.js";
import { goldenFile } from "../support/golden.js";

/** An object of every class that is exported, and others that hold such objects. */
async function belongings(device: exported.Device, model: exported.MoeModel) {
  const floats = (...shape: number[]) => device.zeros(shape, "f32");
  const create = (more: Partial<exported.MoeLayerOptions>) =>
    exported.MoeLayer.create({
      ...{ device, hiddenSize: 4, intermediateSize: 3, numExperts: 2, topK: 1, router: floats(2, 4), ...more },
      experts: { gate: floats(2, 3, 4), up: floats(2, 3, 4), down: floats(2, 4, 3) },
    });
  const layer = create({ offload: { slots: 1 } });
  const trained = create({});
  const { state } = trained.forward(floats(1, 4), { save: true });
  const parameters = trained.parameters();
  return {
    device,
    model,
    layer,
    tensor: floats(2),
    view: floats(2, 2).rows(0, 1),
    packed: exported.packExperts(floats(1, 2, 2)),
    captured: trained.capture(1),
    state,
    parameters,
    gradients: parameters.gradients,
    offload: layer.offload,
    budget: new exported.OffloadBudget(device, { slots: 1 }),
    stats: new exported.RouterStats(device, { numExperts: 2 }),
    adamW: new exported.AdamW(parameters, { learningRate: 1 }),
    sgd: new exported.SGD(parameters, { learningRate: 1 }),
    routing: exported.gating(floats(1, 2), { topK: 1 }),
    quantized: exported.quantize(floats(2, 32), "int8"),
    inMap: new Map([["y", floats(1)]]),
    inArrays: [[floats(1)]],
  };
}

/** Open files of both formats in a folder. */
async function openFiles(folder: string) {
  const [single, split] = [join(folder, "model.safetensors"), join(folder, "model.gguf")];
  copyFileSync(goldenFile("mixtral_small"), single);
  writeFileSync(split, rawGguf({ tensors: [{ name: "x", type: "F32", shape: [4] }] }));
  return {
    safetensors: await safetensors.SafetensorsFile.open(single),
    sharded: await safetensors.ShardedCheckpoint.open(folder),
    gguf: await gguf.GgufFile.open(split),
    split: await gguf.SplitGguf.open(split),
  };
}

test("objects of a thread cannot be cloned, alone or within others", async () => {
  using directory = temporaryDirectory();
  using device = exported.openDevice("simt");
  await using model = await exported.openModel(goldenFile("mixtral_small"));
  const files = await openFiles(directory.path);
  const objects = {
    ...(await belongings(device, model)),
    ...files,
    random: new testing.Random(1),
    testCase: testing.testCases[0],
  };
  const { port1, port2 } = new MessageChannel();
  try {
    for (const [name, object] of Object.entries(objects)) {
      expect(object, name).toBeTypeOf("object");
      const refusal = expect.objectContaining({
        name: "DataCloneError",
        message: expect.stringMatching(/open files and the like stay on their thread; send arrays or paths instead/),
      });
      expect(() => structuredClone(object), name).toThrow(refusal);
      expect(() => port1.postMessage({ [name]: object }), name).toThrow(refusal);
    }
  } finally {
    port1.close();
    port2.close();
    for (const file of Object.values(files)) await file.close();
  }
  const entries = { ...exported, ...safetensors, ...gguf, ...testing };
  const classes = Object.values(entries).filter((one) => /^class /.test(String(one)) && one !== exported.MoeError);
  const made = Object.values(objects).map((object) => (object as object).constructor);
  expect(classes.filter((one) => !made.includes(one as () => void))).toEqual([]);
});

test("the reason is short enough for errors to quote it whole", () => {
  using device = exported.openDevice("reference");
  expect(String(device.uncloneable).length).toBeLessThanOrEqual(136);
});

test("console.log shows open files in one line", async () => {
  using directory = temporaryDirectory();
  const { safetensors: file, sharded, gguf: ggufFile, split } = await openFiles(directory.path);
  const place = (name: string) => JSON.stringify(join(directory.path, name));
  const texts = new Map<{ close(): Promise<void> }, string>([
    [file, `SafetensorsFile ${place("model.safetensors")}, tensors: ${file.tensors.size}`],
    [sharded, `ShardedCheckpoint ${JSON.stringify(directory.path)}, tensors: ${file.tensors.size}`],
    [ggufFile, `GgufFile ${place("model.gguf")}, tensors: 1`],
    [split, `SplitGguf ${place("model.gguf")}, tensors: 1`],
  ]);
  for (const [opened, text] of texts) {
    expect(inspect(opened)).toBe(text);
    await opened.close();
    expect(inspect(opened)).toBe(`${text} (closed)`);
  }
});
