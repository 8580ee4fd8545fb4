import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { expertLoad } from "../../lib/operators/noise/expert_load.js";
import { noisyLogits } from "../../lib/operators/noise/noisy_logits.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = join(import.meta.dirname, "noisy_topk");
const files = readdirSync(directory);

/** Runs the noisy files' gating on a device, from tokens to load; returns results with the expected values. */
async function run(device: Device, name: string, dtype: FloatDType) {
  await using file = await SafetensorsFile.open(join(directory, name));
  const config = JSON.parse(file.metadata.config as string);
  const values = async (tensor: string) => (await file.read(tensor)).data as Float32Array | Int32Array;
  const upload = async (tensor: string) => {
    const { data, shape } = await file.read(tensor);
    return device.tensor(Float64Array.from(data as Float32Array), shape, dtype) as Tensor<"f32">;
  };
  /** Stored [H, E]. */
  const router = async (tensor: string) => {
    const { data, shape } = await file.read(tensor);
    const [hidden, experts] = shape as [number, number];
    const transposed = Float64Array.from({ length: hidden * experts }, (_, index) => {
      return data[(index % hidden) * experts + Math.floor(index / hidden)] as number;
    });
    return device.tensor(transposed, [experts, hidden], dtype);
  };
  const x = await upload("x");
  const topK: number = config.top_k;
  const clean = routerProjection(x, await router("w_gate"));
  const spread = routerProjection(x, await router("w_noise"));
  const noisy = config.training
    ? noisyLogits(clean, spread, { noise: await upload("noise"), epsilon: config.noise_epsilon })
    : undefined;
  const { ids, weights } = gating(noisy?.logits ?? clean, { topK, scoring: "softmax_selected" });
  const experts = await Promise.all(
    Array.from({ length: config.num_experts }, async (_, expert) => ({
      up: await upload(`experts.${expert}.fc1.weight`),
      upBias: await upload(`experts.${expert}.fc1.bias`),
      down: await upload(`experts.${expert}.fc2.weight`),
      downBias: await upload(`experts.${expert}.fc2.bias`),
    })),
  );
  using layer = MoeLayer.create({
    device,
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    numExperts: config.num_experts,
    topK,
    scoring: "softmax_selected",
    activation: "relu",
    outputActivation: "softmax",
    noisy: { epsilon: config.noise_epsilon },
    router: { tensor: await upload("w_gate"), orient: "in_out" },
    noiseRouter: { tensor: await upload("w_noise"), orient: "in_out" },
    experts,
  });
  const y = layer.forward(x, config.training ? { training: { noise: await upload("noise") } } : {});
  const load = noisy
    ? expertLoad(clean, noisy.logits, noisy.deviation, { topK })
    : sort(ids, { numExperts: config.num_experts }).tokensPerExpert;
  return {
    ids: [await ids.data(), await values("topk_ids")] as const,
    results: [
      ["clean logits", await clean.data(), await values("clean_logits_f64")],
      ["weights", await weights.data(), await values("topk_weights_f64")],
      ["output", await y.data(), await values("output_f64")],
      ["load", await load.data(), await values("load_f64")],
      ...(noisy
        ? [
            ["logits", await noisy.logits.data(), await values("router_logits")] as const,
            ["deviation", await noisy.deviation.data(), await values("noise_stddev_f64")] as const,
          ]
        : []),
    ] as const,
  };
}

test("there are files with and without noise", () => {
  expect(files).toEqual(
    expect.arrayContaining(["eval_small", "mid", "small", "t1"].map((size) => `noisy_topk_${size}.safetensors`)),
  );
});

describe.each(kernelPaths)("noisy top-k gating on $label", (path) => {
  const device = openForTests(path);

  test.each(files)("%s", async (name) => {
    const { ids, results } = await run(device(), name, "f32");
    expect(ids[0]).toEqual(ids[1]);
    for (const [what, actual, expected] of results) {
      expect({ what, error: relativeError(actual, expected) }).toEqual({
        what,
        error: expect.toSatisfy((error) => error <= 2e-5),
      });
    }
  });
});

describe("noisy top-k gating in float64", () => {
  const device = openForTests("reference");

  test.each(files)("%s", async (name) => {
    const { ids, results } = await run(device(), name, "f64");
    expect(ids[0]).toEqual(ids[1]);
    for (const [what, actual, expected] of results) {
      // The noisy logits are stored in float32 only.
      const tolerance = what === "logits" ? 1e-6 : 1e-12;
      expect({ what, error: relativeError(actual, expected) }).toEqual({
        what,
        error: expect.toSatisfy((error) => error <= tolerance),
      });
    }
  });
});
