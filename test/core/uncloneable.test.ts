import { MessageChannel } from "node:worker_threads";
import { expect, test } from "vitest";
import * as exported from "../../lib/index.js";
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

test("objects of a thread cannot be cloned, alone or within others", async () => {
  using device = exported.openDevice("simt");
  await using model = await exported.openModel(goldenFile("mixtral_small"));
  const objects = await belongings(device, model);
  const { port1, port2 } = new MessageChannel();
  try {
    for (const [name, object] of Object.entries(objects)) {
      expect(object, name).toBeTypeOf("object");
      const refusal = expect.objectContaining({
        name: "DataCloneError",
        message: expect.stringMatching(/tensors, layers and devices stay on their thread; send arrays instead/),
      });
      expect(() => structuredClone(object), name).toThrow(refusal);
      expect(() => port1.postMessage({ [name]: object }), name).toThrow(refusal);
    }
  } finally {
    port1.close();
    port2.close();
  }
  const classes = Object.values(exported).filter((one) => /^class /.test(String(one)) && one !== exported.MoeError);
  const made = Object.values(objects).map((object) => (object as object).constructor);
  expect(classes.filter((one) => !made.includes(one))).toEqual([]);
});
