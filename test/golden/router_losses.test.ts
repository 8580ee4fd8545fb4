import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { expertTotals } from "../../lib/operators/statistics/expert_totals.js";
import { cvSquared } from "../../lib/operators/statistics/imbalance.js";
import { loadBalancingLoss } from "../../lib/operators/statistics/load_balancing_loss.js";
import { zLoss } from "../../lib/operators/statistics/z_loss.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = import.meta.dirname;
const filesOf = (family: string) => readdirSync(join(directory, family)).map((name) => join(family, name));
const switchFiles = filesOf("switch");
const noisyTopKFiles = filesOf("noisy_topk");

/** The tensors of a file by name, and its configuration. */
async function read(name: string) {
  await using file = await SafetensorsFile.open(join(directory, name));
  const tensors = new Map<string, { data: ArrayLike<number>; shape: readonly number[] }>();
  for (const tensor of file.tensors.keys()) {
    const { data, shape } = await file.read(tensor);
    tensors.set(tensor, { data: data as unknown as ArrayLike<number>, shape });
  }
  const values = (tensor: string) => {
    const found = tensors.get(tensor);
    if (found === undefined) throw new Error(`${name}: no tensor ${tensor}`);
    return found;
  };
  return {
    config: JSON.parse(file.metadata.config as string) as Record<string, number>,
    expected: (tensor: string) => values(`${tensor}_f64`).data,
    floats(device: Device, tensor: string, dtype: FloatDType = "f32") {
      const { data, shape } = values(tensor);
      return device.tensor(Float64Array.from(data), shape, dtype) as Tensor<"f32">;
    },
    ids: (device: Device) => device.tensor(values("topk_ids").data as Int32Array, values("topk_ids").shape),
  };
}

/** Everything that a noisy top-k file stores about a batch, computed from its gates and its load. */
async function noisyTopKLosses(name: string, device: Device, dtype?: FloatDType) {
  const { config, expected, floats, ids } = await read(name);
  const totals = expertTotals(ids(device), {
    numExperts: config.num_experts as number,
    weights: floats(device, dtype === "f64" ? "topk_weights_f64" : "topk_weights", dtype),
  });
  const load = floats(device, dtype === "f64" ? "load_f64" : "load", dtype);
  const results: [string, number[]][] = [["importance", [...(await totals.weights.data())]]];
  for (const [prefix, values] of [["importance", totals.weights] as const, ["load", load] as const]) {
    results.push([`${prefix}_cv2_population`, [...(await cvSquared(values).data())]]);
    results.push([`${prefix}_cv2_unbiased`, [...(await cvSquared(values, { unbiased: true }).data())]]);
  }
  const cv = (result: string) => results.find(([key]) => key === result)?.[1][0] as number;
  const loss = (config.loss_coef as number) * (cv("importance_cv2_unbiased") + cv("load_cv2_unbiased"));
  results.push(["loss", [loss]]);
  return results.map(([key, values]) => ({ key, error: relativeError(values, expected(key)) }));
}

async function switchLosses(name: string, device: Device, dtype?: FloatDType) {
  const { config, expected, floats, ids } = await read(name);
  const logits = floats(device, "router_logits", dtype);
  const loss = loadBalancingLoss(logits, ids(device), { sequences: config.batch_size as number });
  return [
    { key: "aux_loss", error: relativeError(await loss.data(), expected("aux_loss")) },
    { key: "z_loss", error: relativeError(await zLoss(logits).data(), expected("z_loss")) },
  ];
}

test("both families have files", () => {
  expect(switchFiles).toHaveLength(4);
  expect(noisyTopKFiles).toHaveLength(4);
});

describe.each(kernelPaths)("golden losses on $label", (path) => {
  const device = openForTests(path);

  test.each(switchFiles)("%s: load-balancing loss and z-loss", async (name) => {
    for (const { key, error } of await switchLosses(name, device())) expect(error, key).toBeLessThanOrEqual(1e-5);
  });

  test.each(noisyTopKFiles)("%s: importance and the variation of importance and load", async (name) => {
    for (const { key, error } of await noisyTopKLosses(name, device())) expect(error, key).toBeLessThanOrEqual(1e-5);
  });
});

describe("golden losses in float64", () => {
  const device = openForTests("reference");

  // The logits are stored in float32.
  test.each(switchFiles)("%s", async (name) => {
    for (const { key, error } of await switchLosses(name, device(), "f64"))
      expect(error, key).toBeLessThanOrEqual(2e-6);
  });

  // tensor2tensor adds its epsilon of 1e-10 to the number of values too.
  test.each(noisyTopKFiles)("%s", async (name) => {
    const results = await noisyTopKLosses(name, device(), "f64");
    for (const { key, error } of results) expect(error, key).toBeLessThanOrEqual(2e-11);
  });
});
