import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { ExpertWeights } from "../../lib/layer/weights/expert_weights.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { gatingBackward } from "../../lib/operators/routing/gating_backward.js";
import { routerProjectionBackward } from "../../lib/operators/routing/router_projection_backward.js";
import { loadBalancingLossBackward } from "../../lib/operators/statistics/load_balancing_loss_backward.js";
import { zLossBackward } from "../../lib/operators/statistics/z_loss_backward.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = join(import.meta.dirname, "backward");
const names = readdirSync(directory);

type Values = { data: ArrayLike<number>; shape: readonly number[] };

async function read(name: string) {
  await using file = await SafetensorsFile.open(join(directory, name));
  const tensors = new Map<string, Values>();
  for (const tensor of file.tensors.keys()) tensors.set(tensor, (await file.read(tensor)) as unknown as Values);
  const values = (tensor: string): Values => {
    const found = tensors.get(tensor);
    if (found === undefined) throw new Error(`${name}: no tensor ${tensor}`);
    return found;
  };
  const roles = JSON.parse(file.metadata.tensors as string) as Record<string, { name: string }>;
  return {
    config: JSON.parse(file.metadata.config as string) as Record<string, number> & { norm_topk_prob: boolean },
    nameOf: (role: string, expert = 0) => roles[role]?.name.replace("{e}", String(expert)) ?? "",
    values,
    has: (tensor: string) => tensors.has(tensor),
  };
}

type Golden = Awaited<ReturnType<typeof read>>;

/** The gradients of the weights [T, k] in plain float64: dWeights[t, j] = expert(x[t]) · cotangent[t]; 0 if dropped. */
function weightGradients(file: Golden): { ids: Int32Array; dWeights: Float64Array; shape: readonly number[] } {
  const { data, shape } = file.values("topk_ids");
  const [tokens, topK] = shape as [number, number];
  const kept = file.has("kept") ? file.values("kept").data : undefined;
  const ids = Int32Array.from(data, (id, slot) => (kept?.[slot] === 0 ? -1 : id));
  const dWeights = new Float64Array(ids.length);
  for (let token = 0; token < tokens; token++) {
    for (let slot = token * topK; slot < (token + 1) * topK; slot++) {
      if ((ids[slot] as number) < 0) continue;
      const y = expertOutput(file, ids[slot] as number, rowOf(file.values("x"), token));
      const cotangent = rowOf(file.values("cotangent"), token);
      dWeights[slot] = y.reduce((sum, value, i) => sum + value * (cotangent[i] as number), 0);
    }
  }
  return { ids, dWeights, shape };
}

function expertOutput(file: Golden, expert: number, x: number[]): number[] {
  const product = (role: string, input: number[]) => {
    const weight = file.values(file.nameOf(role, expert));
    return Array.from({ length: weight.shape[0] as number }, (_, row) =>
      rowOf(weight, row).reduce((sum, value, i) => sum + value * (input[i] as number), 0),
    );
  };
  const ups = product("expert_up", x);
  const inner = file.has(file.nameOf("expert_gate"))
    ? product("expert_gate", x).map((gate, i) => (gate / (1 + Math.exp(-gate))) * (ups[i] as number))
    : ups.map((up) => Math.max(up, 0));
  return product("expert_down", inner);
}

function rowOf({ data, shape }: Values, row: number): number[] {
  const columns = shape[1] as number;
  return Array.from({ length: columns }, (_, i) => data[row * columns + i] as number);
}

/** The errors of the gradients of the router's weight and of its logits' part in dx. */
function routerErrors(device: Device, file: Golden, dtype: FloatDType) {
  const tensor = (values: ArrayLike<number>, shape: readonly number[]) =>
    device.tensor(Float64Array.from(values), shape, dtype) as Tensor<"f32">;
  const stored = (name: string) => tensor(file.values(name).data, file.values(name).shape);
  const router = file.nameOf("router");
  const { ids, dWeights, shape } = weightGradients(file);
  const logits = stored(dtype === "f64" ? "router_logits_f64" : "router_logits");
  const dLogits = gatingBackward(logits, { ids: device.tensor(ids, shape) }, tensor(dWeights, shape), {
    topK: shape[1] as number,
    normalize: file.config.norm_topk_prob,
  });
  const { dWeight } = routerProjectionBackward(stored("x"), stored(router), dLogits);
  return { router: relativeError(dWeight.dataSync(), file.values(`grad_f64.${router}`).data) };
}

/** The errors of the gradients of both losses by the logits. */
function lossErrors(device: Device, file: Golden, dtype: FloatDType) {
  const { data, shape } = file.values(dtype === "f64" ? "router_logits_f64" : "router_logits");
  const logits = device.tensor(Float64Array.from(data), shape, dtype) as Tensor<"f32">;
  const ids = device.tensor(file.values("topk_ids").data as Int32Array, file.values("topk_ids").shape);
  const balance = loadBalancingLossBackward(logits, ids, { normalization: "tokens" });
  return {
    aux_loss: relativeError(balance.dataSync(), file.values("grad_logits_f64.aux_loss").data),
    z_loss: relativeError(zLossBackward(logits).dataSync(), file.values("grad_logits_f64.z_loss").data),
  };
}

/** The errors of all gradients of the whole layer, relative to the largest of each. */
function layerErrors(device: Device, file: Golden, dtype: FloatDType): Record<string, number> {
  const { hidden_size, intermediate_size, num_experts, top_k, norm_topk_prob, expert_capacity } = file.config;
  const stored = (name: string) =>
    device.tensor(Float64Array.from(file.values(name).data), file.values(name).shape, dtype) as Tensor<"f32">;
  const gated = file.has(file.nameOf("expert_gate"));
  const roles = { ...(gated && { gate: "expert_gate" }), up: "expert_up", down: "expert_down" };
  const experts = Array.from({ length: num_experts as number }, (_, expert) =>
    Object.fromEntries(Object.entries(roles).map(([name, role]) => [name, stored(file.nameOf(role, expert))])),
  ) as unknown as ExpertWeights[];
  using layer = MoeLayer.create({
    device,
    dtype,
    hiddenSize: hidden_size as number,
    intermediateSize: intermediate_size as number,
    numExperts: num_experts as number,
    topK: top_k as number,
    normalize: norm_topk_prob,
    activation: gated ? "swiglu" : "relu",
    ...(expert_capacity !== undefined && { capacity: { tokens: expert_capacity, per: "sequence" } }),
    router: stored(file.nameOf("router")),
    experts,
  });
  const { state } = layer.forward(stored("x"), { save: true });
  const { dx, gradients } = layer.backward(state, stored("cotangent"));
  const errors = [
    ["x", dx],
    [file.nameOf("router"), gradients.router],
    ...(gradients.experts ?? []).flatMap((expert, e) =>
      Object.entries(roles).map(([name, role]) => [file.nameOf(role, e), expert[name as keyof typeof roles]]),
    ),
  ] as [string, Tensor][];
  return Object.fromEntries(
    errors.map(([name, gradient]) => [name, relativeError(gradient.dataSync(), file.values(`grad_f64.${name}`).data)]),
  );
}

test("there are files", () => {
  expect(names).toEqual(["backward_mixtral_small.safetensors", "backward_switch_small.safetensors"]);
});

describe.each(kernelPaths)("golden gradients on $label", (path) => {
  const device = openForTests(path);

  test.each(names)("%s: router", async (name) => {
    expect(routerErrors(device(), await read(name), "f32").router).toBeLessThanOrEqual(1e-5);
  });

  test.each(names)("%s: the whole layer", async (name) => {
    const errors = Object.entries(layerErrors(device(), await read(name), "f32"));
    for (const [tensor, error] of errors) expect(error, tensor).toBeLessThanOrEqual(1e-5);
  });

  test.each(names)("%s: losses", async (name) => {
    const errors = Object.entries(lossErrors(device(), await read(name), "f32"));
    for (const [loss, error] of errors) expect(error, loss).toBeLessThanOrEqual(1e-5);
  });
});

describe("golden gradients in float64", () => {
  const device = openForTests("reference");

  test.each(names)("%s: router", async (name) => {
    expect(routerErrors(device(), await read(name), "f64").router).toBeLessThanOrEqual(1e-12);
  });

  test.each(names)("%s: the whole layer", async (name) => {
    const errors = Object.entries(layerErrors(device(), await read(name), "f64"));
    for (const [tensor, error] of errors) expect(error, tensor).toBeLessThanOrEqual(1e-12);
  });

  test.each(names)("%s: losses", async (name) => {
    const errors = Object.entries(lossErrors(device(), await read(name), "f64"));
    for (const [loss, error] of errors) expect(error, loss).toBeLessThanOrEqual(1e-12);
  });
});
