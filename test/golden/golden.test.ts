import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { relativeError } from "../../lib/cases/run.js";
import { type ExpectedResults, type LayerFile, openLayerFile } from "../../lib/checkpoint/layer_file.js";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors.js";
import { routerProjection } from "../../lib/operators/router_projection.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = import.meta.dirname;
const files = readdirSync(directory).filter((name) => name.endsWith(".safetensors"));

test("there are files of all four kinds", () => {
  for (const family of ["mixtral", "olmoe", "qwen3_moe_norm", "qwen3_moe_nonorm"]) {
    for (const size of ["t1", "small", "mid"]) expect(files).toContain(`${family}_${size}.safetensors`);
  }
});

async function open(name: string): Promise<LayerFile & { expected: ExpectedResults }> {
  const file = await openLayerFile(join(directory, name));
  const { expected } = file;
  if (expected === undefined) throw new Error(`${name} has no expected results`);
  return { ...file, expected };
}

describe.each(kernelPaths)("golden layers on $label", (path) => {
  const device = openForTests(path);

  test.each(files)("%s in float32", async (name) => {
    const { x, config, numTokens, expected, load } = await open(name);
    using layer = await load(device());
    using input = device().tensor(x, [numTokens, config.hiddenSize]);
    const { ids, weights } = layer.route(input);
    expect(await ids.data()).toEqual(expected.ids);
    expect(relativeError(await weights.data(), expected.weightsF64)).toBeLessThanOrEqual(3e-6);
    using y = layer.forward(input);
    expect(relativeError(await y.data(), expected.outputF64)).toBeLessThanOrEqual(1e-5);
  });

  test.each(files)("%s: router logits", async (name) => {
    await using file = await SafetensorsFile.open(join(directory, name));
    const routerName = JSON.parse(file.metadata.tensors as string).router.name as string;
    const upload = async (tensor: string) => {
      const { data, shape } = await file.read(tensor);
      return device().tensor(data as Float32Array, shape);
    };
    using x = await upload("x");
    using router = await upload(routerName);
    using logits = routerProjection(x, router);
    const expected = (await file.read("router_logits")).data as Float32Array;
    expect(relativeError(await logits.data(), expected)).toBeLessThanOrEqual(2e-5);
  });

  test.each(
    files.flatMap((name) => [
      { name, dtype: "bf16" as const, tolerance: 2e-2 },
      { name, dtype: "f16" as const, tolerance: 3e-3 },
    ]),
  )("$name in $dtype, ids and weights given", async ({ name, dtype, tolerance }) => {
    const { x, config, numTokens, expected, load } = await open(name);
    using layer = await load(device(), dtype);
    using input = device().tensor(x, [numTokens, config.hiddenSize], dtype);
    using ids = device().tensor(expected.ids, [numTokens, config.topK]);
    using weights = device().tensor(expected.weights, [numTokens, config.topK]);
    using y = layer.forward(input, { routing: { ids, weights } });
    expect(relativeError(await y.data(), expected.outputF64)).toBeLessThanOrEqual(tolerance);
  });
});

describe("golden layers in float64", () => {
  const device = openForTests("reference");

  test.each(files)("%s", async (name) => {
    const { x, config, numTokens, expected, load } = await open(name);
    using layer = await load(device(), "f64");
    using input = device().tensor(Float64Array.from(x), [numTokens, config.hiddenSize], "f64");
    const { ids, weights } = layer.route(input);
    expect(await ids.data()).toEqual(expected.ids);
    expect(relativeError(await weights.data(), expected.weightsF64)).toBeLessThanOrEqual(1e-12);
    using y = layer.forward(input);
    expect(relativeError(await y.data(), expected.outputF64)).toBeLessThanOrEqual(1e-12);
  });
});
