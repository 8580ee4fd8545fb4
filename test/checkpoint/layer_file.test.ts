import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openLayerFile } from "../../lib/checkpoint/layer_file.js";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../lib/checkpoint/safetensors.js";
import { openForTests } from "../support/devices.js";
import { temporaryDirectory } from "./support/temporary_directory.js";

const golden = join(import.meta.dirname, "..", "golden", "mixtral_small.safetensors");

interface Contents {
  readonly tensors: Map<string, SafetensorsInput>;
  readonly metadata: Record<string, string>;
}

/** Opens a copy of a golden layer file, changed first. */
async function openChanged(change: (contents: Contents) => void): Promise<Awaited<ReturnType<typeof openLayerFile>>> {
  using directory = temporaryDirectory();
  await using file = await SafetensorsFile.open(golden);
  const tensors = new Map<string, SafetensorsInput>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  const contents = { tensors, metadata: { ...file.metadata } };
  change(contents);
  const path = join(directory.path, "changed.safetensors");
  await writeSafetensors(path, contents.tensors, { metadata: contents.metadata });
  return await openLayerFile(path);
}

/** A change of one field of the JSON that metadata has under `key`. */
const set =
  (key: string, field: string, value: unknown) =>
  ({ metadata }: Contents): void => {
    metadata[key] = JSON.stringify({ ...JSON.parse(metadata[key] as string), [field]: value });
  };

const failure = (code: string, message: RegExp) =>
  expect.objectContaining({ name: "MoeError", code, message: expect.stringMatching(message) });

test("formula, input and results", async () => {
  const file = await openLayerFile(golden);
  expect(file).toMatchObject({ path: golden, family: "mixtral", caseName: "mixtral_small", numTokens: 13 });
  expect(file.config).toEqual({
    hiddenSize: 50,
    intermediateSize: 37,
    numExperts: 7,
    topK: 2,
    activation: "swiglu",
    scoring: "softmax",
    normalize: true,
    scale: 1,
  });
  expect(file.x).toBeInstanceOf(Float32Array);
  const { ids, weights, weightsF64, output, outputF64 } = file.expected ?? {};
  expect([ids, weights, weightsF64, output, outputF64].map((array) => array?.length)).toEqual([26, 26, 26, 650, 650]);
  expect(file.x).toHaveLength(650);
});

test("a file without results", async () => {
  expect((await openChanged(({ tensors }) => tensors.delete("output"))).expected).toBeUndefined();
});

test("an activation without a gate", async () => {
  const file = await openChanged((contents) => {
    set("config", "activation", "relu")(contents);
    const { expert_gate: _gate, ...others } = JSON.parse(contents.metadata.tensors as string);
    contents.metadata.tensors = JSON.stringify(others);
  });
  expect(file.config.activation).toBe("relu");
});

describe("a layer on a device", () => {
  const device = openForTests("reference");

  test("in the dtype asked for, with progress", async () => {
    const file = await openLayerFile(golden);
    let last = { bytesRead: 0, bytesTotal: Number.NaN };
    using layer = await file.load(device(), "f16", {
      onProgress: (progress) => {
        last = progress;
      },
    });
    expect(layer.description.weightDType).toBe("f16");
    expect(last).toEqual({ bytesRead: 4 * (7 * 3 * 37 * 50 + 7 * 50), bytesTotal: 4 * (7 * 3 * 37 * 50 + 7 * 50) });
  });

  test("a missing weight", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "lacking.safetensors");
    await using file = await SafetensorsFile.open(golden);
    const tensors = new Map<string, SafetensorsInput>();
    for (const name of file.tensors.keys()) if (!name.endsWith("5.w2.weight")) tensors.set(name, await file.read(name));
    await writeSafetensors(path, tensors, { metadata: file.metadata });
    const layer = (await openLayerFile(path)).load(device());
    await expect(layer).rejects.toEqual(
      failure("BAD_CHECKPOINT", /lacking\.safetensors: expected a tensor ".*5\.w2\.weight"/),
    );
  });
});

describe("a formula that layers cannot compute is UNSUPPORTED_OPERATION", () => {
  test.each<[string, (contents: Contents) => void, RegExp]>([
    [
      "scoring",
      set("config", "scoring", "sigmoid"),
      /config\.scoring: expected "softmax", "softmax_selected", got "sigmoid"/,
    ],
    ["activation", set("config", "activation", "swiglu_clamped"), /config\.activation: expected .*"swiglu"/],
    ["normalisation", set("config", "norm_kind", "clamped_sum"), /config\.norm_kind: expected "sum"/],
    ["shared expert", set("config", "shared_expert", { intermediate_size: 8 }), /config\.shared_expert: expected null/],
    ["a field it does not know", set("config", "n_group", 2), /config\.n_group: expected no such field, got 2/],
    [
      "a role it does not know",
      set("tensors", "selection_bias", { name: "b" }),
      /tensors\.selection_bias: expected only router/,
    ],
    [
      "orientation",
      set("tensors", "router", { name: "r", orient: "in_out" }),
      /tensors\.router: expected orient "out_in"/,
    ],
    ["stacking", set("tensors", "expert_up", { name: "r", orient: "out_in", stacked: "dim0" }), /"stacked":"dim0"/],
  ])("%s", async (_what, change, message) => {
    await expect(openChanged(change)).rejects.toEqual(failure("UNSUPPORTED_OPERATION", message));
  });
});

describe("a malformed file is BAD_CHECKPOINT", () => {
  const zeros = new Float32Array(12 * 50);
  test.each<[string, (contents: Contents) => void, RegExp]>([
    ["no family", ({ metadata }) => delete metadata.family, /__metadata__\.family: expected a string, got none/],
    ["no case", ({ metadata }) => delete metadata.case, /__metadata__\.case: expected a string/],
    ["no config", ({ metadata }) => delete metadata.config, /__metadata__\.config: expected a string/],
    ["broken config", ({ metadata }) => (metadata.config = "{"), /__metadata__\.config: expected valid UTF-8 JSON/],
    [
      "no size",
      set("config", "hidden_size", undefined),
      /config: hidden_size: expected an integer >= 1, got undefined/,
    ],
    ["bad scale", set("config", "routed_scaling_factor", "1"), /routed_scaling_factor: expected a number, got "1"/],
    ["no name", set("tensors", "router", { orient: "out_in" }), /tensors\.router: expected a name/],
    ["a role that is no object", set("tensors", "router", 1), /tensors\.router: expected a name, got 1/],
    ["no role", set("tensors", "expert_up", undefined), /tensors\.expert_up: expected a name for swiglu/],
    ["a gate without use", set("config", "activation", "relu"), /tensors\.expert_gate: expected none for relu/],
    ["no input", ({ tensors }) => tensors.delete("x"), /expected a tensor "x"/],
    [
      "an input of another shape",
      ({ tensors }) => tensors.set("x", { dtype: "F32", shape: [12, 50], data: zeros }),
      /tensor "x": expected F32 \[13, 50\], got F32 \[12, 50\]/,
    ],
    ["incomplete results", ({ tensors }) => tensors.delete("output_f64"), /expected a tensor "output_f64"/],
  ])("%s", async (_what, change, message) => {
    await expect(openChanged(change)).rejects.toEqual(failure("BAD_CHECKPOINT", message));
  });
});
