import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openLayerFile } from "../../../lib/checkpoint/layer_file/layer_file.js";
import { readFormula } from "../../../lib/checkpoint/layer_file/layer_file_formula.js";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import type { MoeLayerConfig } from "../../../lib/layer/description/config.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { openForTests } from "../../support/devices.js";
import { goldenFile } from "../../support/golden.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const golden = goldenFile("mixtral_small");

interface Contents {
  readonly tensors: Map<string, SafetensorsInput>;
  readonly metadata: Record<string, string>;
}

type OpenedFile = Awaited<ReturnType<typeof openLayerFile>>;

/** The result of `use` for a modified copy of a golden layer file. */
async function withChanged<T>(change: (contents: Contents) => void, use: (file: OpenedFile) => Promise<T>): Promise<T> {
  using directory = temporaryDirectory();
  await using file = await SafetensorsFile.open(golden);
  const tensors = new Map<string, SafetensorsInput>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  const contents = { tensors, metadata: { ...file.metadata } };
  change(contents);
  const path = join(directory.path, "changed.safetensors");
  await writeSafetensors(path, contents.tensors, { metadata: contents.metadata });
  return await use(await openLayerFile(path));
}

const openChanged = (change: (contents: Contents) => void) => withChanged(change, async (file) => file);

/** Changes one field of the JSON under `key` in the metadata. */
const set =
  (key: string, field: string, value: unknown) =>
  ({ metadata }: Contents): void => {
    metadata[key] = JSON.stringify({ ...JSON.parse(metadata[key] as string), [field]: value });
  };

const failure = (code: string, message: RegExp) =>
  expect.objectContaining({ name: "MoeError", code, message: expect.stringMatching(message) });

test("formula, input and results", async () => {
  const file = await openLayerFile(golden);
  expect(file).toMatchObject({ path: golden, family: "mixtral", caseName: "mixtral_small", shape: [13, 50] });
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
  const { output, outputF64 } = file.expected ?? {};
  const { ids, weights, weightsF64 } = file.expected?.routing ?? {};
  expect([ids, weights, weightsF64, output, outputF64].map((array) => array?.length)).toEqual([26, 26, 26, 650, 650]);
  expect(file.x).toHaveLength(650);
});

test("sequences, and choices that were dropped", async () => {
  const file = await openChanged((contents) => {
    for (const [field, value] of Object.entries({ num_tokens: 12, batch_size: 3, seq_len: 4 })) {
      set("config", field, value)(contents);
    }
    for (const [name, tensor] of contents.tensors) {
      const { dtype, shape, data } = tensor as SafetensorsInput & { data: Float32Array };
      if (shape[0] !== 13) continue;
      contents.tensors.set(name, {
        dtype,
        shape: [12, ...shape.slice(1)],
        data: data.slice(0, (12 * data.length) / 13),
      } as SafetensorsInput);
    }
    const kept = Int32Array.from({ length: 24 }, (_, slot) => (slot === 5 ? 0 : 1));
    contents.tensors.set("kept", { dtype: "I32", shape: [12, 2], data: kept });
  });
  expect(file.shape).toEqual([3, 4, 50]);
  const { ids, weights, weightsF64 } = file.expected?.routing ?? {};
  expect([ids?.[5], weights?.[5], weightsF64?.[5]]).toEqual([-1, 0, 0]);
  expect(ids?.indexOf(-1)).toBe(ids?.lastIndexOf(-1));
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
    let last = { bytesRead: 0, bytesTotal: Number.NaN };
    using layer = await MoeLayer.load(golden, {
      device: device(),
      dtype: "f16",
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
    const layer = MoeLayer.load(path, { device: device() } as never);
    await expect(layer).rejects.toEqual(
      failure("BAD_CHECKPOINT", /lacking\.safetensors: expected a tensor ".*5\.w2\.weight"/),
    );
  });
});

describe("a formula that layers cannot compute is UNSUPPORTED_OPERATION", () => {
  test.each<[string, (contents: Contents) => void, RegExp]>([
    ["scoring", set("config", "scoring", "tanh"), /config\.scoring: expected one of "softmax", .*, got "tanh"/],
    ["activation", set("config", "activation", "sine"), /config\.activation: expected one of .*"swiglu"/],
    ["normalisation", set("config", "norm_kind", "max"), /config\.norm_kind: expected one of "sum", .*, got "max"/],
    ["a field it does not know", set("config", "depth", 2), /config\.depth: expected no such field, got 2/],
    ["a field that all objects have", set("config", "constructor", "x"), /config\.constructor: expected no such field/],
    [
      "a role it does not know",
      set("tensors", "attention", { name: "b" }),
      /tensors\.attention: expected a role such as router, /,
    ],
    [
      "orientation",
      set("tensors", "router", { name: "r", orient: "diagonal" }),
      /tensors\.router: expected orient "out_in" or "in_out"/,
    ],
    ["stacking", set("tensors", "expert_up", { name: "r", orient: "out_in", stacked: "dim1" }), /"stacked":"dim1"/],
    ["a split", set("tensors", "expert_up", { name: "r", orient: "out_in", split: "thirds" }), /"split":"thirds"/],
    [
      "a split of a matrix alone",
      set("tensors", "expert_down", { name: "r", orient: "out_in", split: "halves" }),
      /tensors\.expert_down: expected a split of gate, up or gate_up, got one of expert_down/,
    ],
    ["a key", set("tensors", "expert_up", { name: "r", orient: "out_in", sparse: true }), /"sparse":true/],
  ])("%s", async (_what, change, message) => {
    await expect(openChanged(change)).rejects.toEqual(failure("UNSUPPORTED_OPERATION", message));
  });
});

test.each<[string, Record<string, unknown>, Partial<MoeLayerConfig>]>([
  ["sigmoid of the chosen", { scoring: "sigmoid_selected" }, { scoring: "sigmoid", selectionKey: "logit" }],
  [
    "gpt-oss",
    { activation: "swiglu_clamped", swiglu_alpha: 2, swiglu_limit: 5 },
    { activation: "swiglu_clamped", clamp: { alpha: 2, limit: 5 } },
  ],
  [
    "situ",
    { activation: "situ", swiglu_limit: 4, swiglu_up_limit: 25, swiglu_offset: 0.5 },
    { activation: "situ", clamp: { limit: 4, upLimit: 25, offset: 0.5 } },
  ],
  ["weights not renormalised", { norm_topk_prob: false, norm_kind: "clamped_sum" }, { normalize: false }],
  [
    "sum and epsilon",
    { norm_kind: "sum_plus_eps", norm_eps: 1e-6 },
    { normalize: { by: "sum_plus_epsilon", epsilon: 1e-6 } },
  ],
  ["clamped sum", { norm_kind: "clamped_sum", norm_eps: 0.5 }, { normalize: { by: "clamped_sum", epsilon: 0.5 } }],
  ["L^p norm", { norm_kind: "lp", norm_p: 3 }, { normalize: { by: "lp", power: 3 } }],
  ["groups", { n_group: 7, topk_group: 3 }, { groups: { count: 7, top: 3, score: "max" } }],
  ["a capacity", { expert_capacity: 3, capacity_factor: 9 }, { capacity: { tokens: 3, per: "batch" } }],
  [
    "a capacity by its factor",
    { capacity_factor: 1.5, capacity_scope: "sequence" },
    { capacity: { factor: 1.5, per: "sequence" } },
  ],
  [
    "experts that choose",
    { scoring: "expert_choice", expert_capacity: 3, norm_topk_prob: false },
    { scoring: "softmax", topK: 7, expertChoice: { tokens: 3 } },
  ],
  ["input weighted", { weight_applied_to: "input" }, { weightOn: "input" }],
])("%s", async (_what, change, expected) => {
  const file = await openChanged((contents) => {
    for (const [field, value] of Object.entries(change)) set("config", field, value)(contents);
  });
  expect(file.config).toMatchObject(expected);
});

test("limits of a shared expert alone", async () => {
  await using file = await SafetensorsFile.open(golden);
  const config = JSON.parse(file.metadata.config as string);
  const own = { intermediate_size: 37, swiglu_limit: 7, swiglu_up_limit: 3 };
  const read = (change: object) => readFormula("file", { ...config, shared_expert: own, ...change }).config;
  expect(read({ activation: "swiglu_clamped_after", swiglu_limit: 0 })).toMatchObject({
    activation: "swiglu_clamped_after",
    clamp: { limit: Number.POSITIVE_INFINITY },
    sharedExpert: { intermediateSize: 37, gate: "none", clamp: { limit: 7, upLimit: 3 } },
  });
  expect(read({}).sharedExpert).toEqual({ intermediateSize: 37, gate: "none" });
});

describe("MoeLayer.load of a layer file", () => {
  const device = openForTests("cpu");

  test("loads the file's layer", async () => {
    using layer = await MoeLayer.load(golden, { device: device() });
    const file = await openLayerFile(golden);
    using x = device().tensor(file.x, file.shape);
    expect(relativeError(layer.forward(x).dataSync(), file.expected?.outputF64 as Float64Array)).toBeLessThan(1e-5);
    const read: number[] = [];
    const onProgress = ({ bytesRead }: { bytesRead: number }) => read.push(bytesRead);
    using narrow = await MoeLayer.load(golden, { device: device(), dtype: "bf16", onProgress });
    expect(narrow.description.weightDType).toBe("bf16");
    expect(read.length).toBeGreaterThan(0);
  });

  test("cannot be combined with a layer or cache", async () => {
    const load = (options: object) => MoeLayer.load(golden, { device: device(), ...options });
    await expect(load({ layer: 1 })).rejects.toEqual(
      failure("INVALID_ARGUMENT", /layer cannot be combined with a layer file/),
    );
    await expect(load({ cache: true })).rejects.toEqual(
      failure("INVALID_ARGUMENT", /cache cannot be combined with a layer/),
    );
    await expect(load({ device: 3 })).rejects.toEqual(failure("INVALID_ARGUMENT", /device: expected a Device/));
    const missing = MoeLayer.load("none.safetensors", { device: device() });
    await expect(missing).rejects.toEqual(failure("BAD_CHECKPOINT", /none\.safetensors/));
  });
});

describe("storages of weights give the same outputs", () => {
  const device = openForTests("reference");

  const outputs = async (file: OpenedFile): Promise<Float32Array> => {
    using layer = await MoeLayer.load(file.path as typeof golden, { device: device() });
    using x = device().tensor(file.x, [13, 50]);
    using y = layer.forward(x);
    return await y.data();
  };
  const matrices = ({ tensors, metadata }: Contents, role: string): Float32Array[] => {
    const { name } = JSON.parse(metadata.tensors as string)[role];
    return Array.from({ length: 7 }, (_, expert) => {
      return (tensors.get(name.replace("{e}", String(expert))) as SafetensorsInput).data as Float32Array;
    });
  };
  const transpose = (matrix: Float32Array, rows: number): Float32Array => {
    const columns = matrix.length / rows;
    return matrix.map((_, index) => matrix[(index % rows) * columns + Math.floor(index / rows)] as number);
  };
  const interleave = (a: Float32Array, b: Float32Array, row: number): Float32Array =>
    new Float32Array(2 * a.length).map((_, index) => {
      const line = Math.floor(index / row);
      return (line % 2 === 0 ? a : b)[Math.floor(line / 2) * row + (index % row)] as number;
    });
  const joined = (arrays: readonly Float32Array[]): Float32Array => Float32Array.from(arrays.flatMap((a) => [...a]));
  const put = (name: string, shape: number[], data: Float32Array, { tensors }: Contents) =>
    tensors.set(name, { dtype: "F32", shape, data });

  test.each<[string, (contents: Contents) => void]>([
    [
      "inputs first, stacked",
      (contents) => {
        const down = matrices(contents, "expert_down").map((matrix) => transpose(matrix, 50));
        put("down", [7, 37, 50], joined(down), contents);
        set("tensors", "expert_down", { name: "down", orient: "in_out", stacked: "dim0" })(contents);
      },
    ],
    [
      "blocks of rows",
      (contents) => {
        put("up", [7 * 37, 50], joined(matrices(contents, "expert_up")), contents);
        set("tensors", "expert_up", { name: "up", orient: "out_in", stacked: "rows" })(contents);
      },
    ],
    [
      "gate and up as halves under their own roles",
      (contents) => {
        const [gate, up] = [matrices(contents, "expert_gate"), matrices(contents, "expert_up")];
        put("both", [7, 74, 50], joined(gate.map((matrix, e) => joined([matrix, up[e] as Float32Array]))), contents);
        const both = { name: "both", orient: "out_in", stacked: "dim0", split: "halves" };
        set("tensors", "expert_gate", both)(contents);
        set("tensors", "expert_up", both)(contents);
      },
    ],
    [
      "gate and up interleaved, inputs first",
      (contents) => {
        const [gate, up] = [matrices(contents, "expert_gate"), matrices(contents, "expert_up")];
        const both = gate.map((matrix, e) => transpose(interleave(matrix, up[e] as Float32Array, 50), 74));
        both.forEach((data, e) => {
          put(`both.${e}`, [50, 74], data, contents);
        });
        set("tensors", "expert_gate", undefined)(contents);
        set("tensors", "expert_up", undefined)(contents);
        set("tensors", "expert_gate_up", { name: "both.{e}", orient: "in_out", split: "interleaved" })(contents);
      },
    ],
  ])("%s", async (_what, change) => {
    expect(await withChanged(change, outputs)).toEqual(await outputs(await openLayerFile(golden)));
  });

  test("a gate in two parts, the first of which multiplies", async () => {
    const withFirst = (factor: number) => (contents: Contents) => {
      const up = matrices(contents, "expert_up");
      matrices(contents, "expert_gate").forEach((matrix, e) => {
        const first = (up[e] as Float32Array).map((value) => factor * value);
        put(`both.${e}`, [74, 50], joined([first, matrix]), contents);
      });
      set("config", "activation", "swiglu_gate_times_up")(contents);
      set("tensors", "expert_gate", { name: "both.{e}", orient: "out_in" })(contents);
    };
    expect(await withChanged(withFirst(1), async ({ config }) => config)).toMatchObject({ multiplier: true });
    const output = await withChanged(withFirst(1), outputs);
    expect(await withChanged(withFirst(2), outputs)).toEqual(output.map((value) => 2 * value));
    expect(output.some((value) => value !== 0)).toBe(true);
  });
});

describe("a malformed file is BAD_CHECKPOINT", () => {
  const zeros = new Float32Array(12 * 50);
  const matrix = { name: "m", orient: "out_in" };
  /** Adds a shared expert with this gate, its matrices and other roles. */
  const setShared = (gate: string, others: object) => (contents: Contents) => {
    set("config", "shared_expert", { intermediate_size: 8, gate })(contents);
    const roles = { shared_gate: matrix, shared_up: matrix, shared_down: matrix, ...others };
    for (const [role, location] of Object.entries(roles)) set("tensors", role, location)(contents);
  };
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
    [
      "bad scale",
      set("config", "routed_scaling_factor", "1"),
      /routed_scaling_factor: expected a finite number, got "1"/,
    ],
    [
      "sequences that do not add up",
      set("config", "batch_size", 2),
      /seq_len: expected an integer >= 0, got undefined/,
    ],
    ["no name", set("tensors", "router", { orient: "out_in" }), /tensors\.router: expected a name/],
    ["a role that is not an object", set("tensors", "router", 1), /tensors\.router: expected a name, got 1/],
    [
      "no role",
      set("tensors", "expert_up", undefined),
      /tensors\.expert_up: expected a name for the activation swiglu/,
    ],
    ["no router", set("tensors", "router", undefined), /tensors\.router: expected a name, got none/],
    [
      "a shared expert that is not an object",
      set("config", "shared_expert", 8),
      /shared_expert: expected an object, got 8/,
    ],
    [
      "no shared expert",
      set("config", "shared_expert", { intermediate_size: 8 }),
      /tensors\.shared_gate: expected a name/,
    ],
    [
      "a shared expert without use",
      set("tensors", "shared_up", matrix),
      /tensors\.shared_up: cannot be combined with a layer without a shared expert/,
    ],
    [
      "a gate without a shared expert",
      set("tensors", "shared_expert_gate", matrix),
      /tensors\.shared_expert_gate: cannot be combined with a layer without a shared expert/,
    ],
    [
      "a shared expert's gate without use",
      setShared("none", { shared_expert_gate_bias: { name: "b" } }),
      /tensors\.shared_expert_gate_bias: cannot be combined with a shared expert with the gate "none"/,
    ],
    [
      "no gate of a shared expert",
      setShared("sigmoid", {}),
      /tensors\.shared_expert_gate: expected a name for the gate "sigmoid" of the shared expert/,
    ],
    [
      "a gate's bias without use",
      (contents) => {
        set("config", "activation", "relu")(contents);
        set("tensors", "expert_gate", undefined)(contents);
        set("tensors", "expert_gate_bias", { name: "b" })(contents);
      },
      /tensors\.expert_gate_bias: cannot be combined with the activation relu/,
    ],
    [
      "two roles of a matrix",
      set("tensors", "expert_gate_up", matrix),
      /tensors\.expert_gate_up: expected one role for each matrix/,
    ],
    [
      "a gate without use",
      set("config", "activation", "relu"),
      /tensors\.expert_gate: cannot be combined with the activation relu/,
    ],
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
