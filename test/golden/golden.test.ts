import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type ExpectedResults,
  type ExpectedRouting,
  type LayerFile,
  openLayerFile,
} from "../../lib/checkpoint/layer_file/layer_file.js";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import type { Training } from "../../lib/layer/router/training.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { gating, type Routing } from "../../lib/operators/routing/gating.js";
import type { GatingRuleOptions } from "../../lib/operators/routing/gating_options.js";
import { limitCapacity } from "../../lib/operators/routing/limit_capacity.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = import.meta.dirname;
const families = ["mixtral", "olmoe", "qwen3_moe_norm", "qwen3_moe_nonorm", "deepseek_v3", "switch", "noisy_topk"];
const files = families.flatMap((family) => readdirSync(join(directory, family)).map((name) => join(family, name)));

test("there are files of all kinds", () => {
  for (const family of families) {
    for (const size of ["t1", "small", "mid"]) expect(files).toContain(join(family, `${family}_${size}.safetensors`));
  }
});

/** Files whose results include noise on the logits. */
const noisy = (name: string): boolean => /noisy_topk_(t1|small|mid)/.test(name);

type Golden = Omit<LayerFile, "expected"> & { readonly expected: Omit<ExpectedResults, "routing"> & ExpectedRouting };

async function open(name: string): Promise<Golden> {
  const file = await openLayerFile(join(directory, name));
  if (file.expected?.routing === undefined) throw new Error(`${name} has no expected results`);
  return { ...file, expected: { ...file.expected, ...file.expected.routing } };
}

/** The file's ids and weights on a device. */
function givenRouting(device: Device, { config, expected }: Golden): Routing & Disposable {
  const shape = [expected.ids.length / config.topK, config.topK];
  const ids = device.tensor(expected.ids, shape);
  const weights = device.tensor(expected.weights, shape, "f32");
  const dispose = () => {
    ids.dispose();
    weights.dispose();
  };
  return { ids, weights, [Symbol.dispose]: dispose };
}

/** The layer of a file on a device. */
function load(name: string, device: Device, dtype?: FloatDType): Promise<MoeLayer> {
  return MoeLayer.load(join(directory, name), { device, ...(dtype && { dtype }) });
}

/** The gating rule in a layer's configuration. */
function gatingRule(config: MoeLayerConfig): GatingRuleOptions {
  const names = ["topK", "scoring", "selectionKey", "groups", "normalize", "scale", "jitter"] as const;
  const given = names.filter((name) => config[name] !== undefined).map((name) => [name, config[name]]);
  return Object.fromEntries(given) as GatingRuleOptions;
}

/** What the file's results depend on besides its tokens. */
function trainingOf(device: Device, { noise, config }: Golden, dtype: "f32" | "f64"): { training?: Training } {
  if (noise === undefined) return {};
  const shape = [noise.length / config.numExperts, config.numExperts];
  return { training: { noise: device.tensor(noise, shape, dtype as "f32") } };
}

describe.each(kernelPaths)("golden layers on $label", (path) => {
  const device = openForTests(path);

  test.each(files)("%s in float32", async (name) => {
    const file = await open(name);
    const { x, shape, expected } = file;
    expect(file.noise !== undefined).toBe(noisy(name));
    using layer = await load(name, device());
    using input = device().tensor(x, shape);
    const training = trainingOf(device(), file, "f32");
    const { ids, weights } = layer.route(input, training);
    expect(await ids.data()).toEqual(expected.ids);
    expect(relativeError(await weights.data(), expected.weightsF64)).toBeLessThanOrEqual(3e-6);
    using y = layer.forward(input, training);
    expect(relativeError(await y.data(), expected.outputF64)).toBeLessThanOrEqual(1e-5);
  });

  test.each(files)("%s: router logits", async (name) => {
    await using file = await SafetensorsFile.open(join(directory, name));
    const { x, shape } = await open(name);
    using layer = await load(name, device());
    using input = device().tensor(x, shape);
    using logits = layer.routerLogits(input);
    const expected = (await file.read(noisy(name) ? "clean_logits" : "router_logits")).data as Float32Array;
    expect(relativeError(await logits.data(), expected)).toBeLessThanOrEqual(2e-5);
  });

  test.each(files)("%s: routing of its logits", async (name) => {
    await using file = await SafetensorsFile.open(join(directory, name));
    const { config, shape, expected } = await open(name);
    const bias = JSON.parse(file.metadata.tensors as string).selection_bias?.name as string | undefined;
    const upload = async (tensor: string) => {
      const { data, shape } = await file.read(tensor);
      return device().tensor(data as Float32Array, shape);
    };
    using logits = await upload("router_logits");
    using selectionBias = bias === undefined ? undefined : await upload(bias);
    const { numExperts, capacity } = config;
    const chosen = gating(logits, { ...gatingRule(config), ...(selectionBias && { selectionBias }) });
    const sequenceLength = shape.at(-2) as number;
    const { ids, weights } = capacity ? limitCapacity(chosen, { ...capacity, numExperts, sequenceLength }) : chosen;
    expect(await ids.data()).toEqual(expected.ids);
    expect(relativeError(await weights.data(), expected.weightsF64)).toBeLessThanOrEqual(3e-6);
  });

  test.each(
    files.flatMap((name) => [
      { name, dtype: "bf16" as const, tolerance: 2e-2 },
      { name, dtype: "f16" as const, tolerance: 3e-3 },
    ]),
  )("$name in $dtype, ids and weights given", async ({ name, dtype, tolerance }) => {
    const file = await open(name);
    using layer = await load(name, device(), dtype);
    using input = device().tensor(file.x, file.shape, dtype);
    using routing = givenRouting(device(), file);
    using y = layer.forward(input, { routing: { ids: routing.ids, weights: routing.weights } });
    expect(relativeError(await y.data(), file.expected.outputF64)).toBeLessThanOrEqual(tolerance);
  });
});

describe("golden layers in float64", () => {
  const device = openForTests("reference");

  test.each(files)("%s", async (name) => {
    const file = await open(name);
    const { x, shape, expected } = file;
    using layer = await load(name, device(), "f64");
    using input = device().tensor(Float64Array.from(x), shape, "f64");
    const training = trainingOf(device(), file, "f64");
    const { ids, weights } = layer.route(input, training);
    expect(await ids.data()).toEqual(expected.ids);
    expect(relativeError(await weights.data(), expected.weightsF64)).toBeLessThanOrEqual(1e-12);
    using y = layer.forward(input, training);
    expect(relativeError(await y.data(), expected.outputF64)).toBeLessThanOrEqual(1e-12);
  });
});
