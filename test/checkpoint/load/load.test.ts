import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { toBF16 } from "../../../lib/core/tensors/dtype.js";
import { combine, type Device, type LoadOptions, MoeLayer, openDevice, type Tensor } from "../../../lib/index.js";
import { describeLayer } from "../../../lib/layer/description/config.js";
import { LayerParts } from "../../../lib/layer/layer_parts.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { readFamilyModel, stackExperts } from "../support/family_model.js";
import { goldenModel, type Model, writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const cases = ["mixtral", "olmoe", "qwen3_moe_norm", "qwen3_moe_nonorm"].flatMap((family) =>
  ["t1", "small", "mid"].map((size) => `${family}_${size}`),
);

async function load(model: Model, device: Device, options: Partial<LoadOptions> = {}, shards = 1): Promise<MoeLayer> {
  using directory = temporaryDirectory();
  await writeModel(directory.path, model, shards);
  return await MoeLayer.load(directory.path, { layer: 0, device, ...options });
}

/** The same model with some weights rounded to BF16. */
function inBF16(model: Model, names: RegExp): Model {
  const weights = Array.from(model.weights, ([name, tensor]) => {
    const { shape, data } = tensor;
    const bits = () => Uint16Array.from(data as Float32Array, toBF16);
    return [name, names.test(name) ? { dtype: "BF16" as const, shape, data: bits() } : tensor] as const;
  });
  return { ...model, weights: new Map(weights) };
}

async function outputOf(layer: MoeLayer, { layerFile }: Model): Promise<Float32Array> {
  using x = layer.device.tensor(layerFile.x, layerFile.shape);
  using y = layer.forward(x);
  return await y.data();
}

describe.each(deviceNames)("a model directory on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test.each(cases)("%s", async (name) => {
    const model = await goldenModel(name);
    const { x, shape, config, expected } = model.layerFile;
    using layer = await load(model, device());
    expect(layer.description).toEqual(describeLayer(config, "f32"));
    using tokens = device().tensor(x, shape);
    const { ids, weights } = layer.route(tokens);
    expect(await ids.data()).toEqual(expected?.routing?.ids);
    expect(relativeError(await weights.data(), expected?.routing?.weightsF64 as Float64Array)).toBeLessThanOrEqual(
      3e-6,
    );
    expect(relativeError(await outputOf(layer, model), expected?.outputF64 as Float64Array)).toBeLessThanOrEqual(1e-5);
  });

  test("leaves errors of other work to who waits for it", async () => {
    using rows = device().tensor([1, 2], [1, 2]);
    using rowOfSlot = device().tensor(Int32Array.of(7), [1, 1]);
    using weights = device().tensor([1], [1, 1]);
    const model = await goldenModel("mixtral_t1");
    for (const options of [{}, { dtype: "int8" }] as const) {
      combine(rows, rowOfSlot, weights).dispose();
      using layer = await load(model, device(), options);
      expect(layer.description.numExperts).toBe(model.layerFile.config.numExperts);
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /^combine: rowOfSlot/);
      await device().synchronize();
    }
  });

  test("shards, and names without the base model's prefix, give the same bits", async () => {
    const model = await goldenModel("mixtral_small");
    using layer = await load(model, device());
    const output = await outputOf(layer, model);
    using sharded = await load(model, device(), {}, 3);
    expect(await outputOf(sharded, model)).toEqual(output);
    const weights = new Map(Array.from(model.weights, ([name, tensor]) => [name.replace(/^model\./, ""), tensor]));
    using base = await load({ ...model, weights }, device());
    expect(await outputOf(base, model)).toEqual(output);
  });

  test("weights in BF16 keep their dtype, or are stored in the one asked for", async () => {
    const model = inBF16(await goldenModel("olmoe_small"), /./);
    using layer = await load(model, device());
    expect(layer.description.weightDType).toBe("bf16");
    using wide = await load(model, device(), { dtype: "f32" });
    expect(wide.description.weightDType).toBe("f32");
    expect(wide.byteLength).toBeGreaterThan(layer.byteLength);
    using rounded = await load(await goldenModel("olmoe_small"), device(), { dtype: "bf16" });
    expect(rounded.description.weightDType).toBe("bf16");
    const output = await outputOf(layer, model);
    expect(await outputOf(rounded, model)).toEqual(output);
    expect(relativeError(output, model.layerFile.expected?.outputF64 as Float64Array)).toBeLessThanOrEqual(2e-2);
  });

  test("experts in BF16 and a router in F32 keep their dtypes", async () => {
    const model = await goldenModel("olmoe_small");
    using layer = await load(inBF16(model, /\.experts\./), device());
    expect(layer.description.formats).toMatchObject({ router: "f32", gate: "bf16", up: "bf16", down: "bf16" });
    using asked = await load(model, device(), { dtype: { router: "f32", experts: "bf16" } });
    expect(asked.byteLength).toBe(layer.byteLength);
    expect(await outputOf(layer, model)).toEqual(await outputOf(asked, model));
  });

  test("fails cleanly if the device is disposed of during loading", async () => {
    const model = await goldenModel("mixtral_small");
    const other = openDevice(deviceName);
    const loading = load(model, other, { onProgress: () => other.dispose() });
    await expect(loading).rejects.toEqual(expect.objectContaining({ code: "DISPOSED" }));
  });

  test("loads the requested layer of several", async () => {
    const model = await goldenModel("qwen3_moe_norm_small");
    const rename = (layer: number) => (name: string) => name.replace("layers.0.", `layers.${layer}.`);
    const zeros = Array.from(model.weights, ([name, tensor]) => {
      const { length } = tensor.data as Float32Array;
      return [name, { ...tensor, data: new Float32Array(length) }] as const;
    });
    const weights = new Map([
      ...zeros,
      ...Array.from(model.weights, ([name, tensor]) => [rename(2)(name), tensor] as const),
    ]);
    const config = { ...model.config, num_hidden_layers: 3 };
    using layer = await load({ ...model, config, weights }, device(), { layer: 2 });
    const output = await outputOf(layer, model);
    expect(relativeError(output, model.layerFile.expected?.outputF64 as Float64Array)).toBeLessThanOrEqual(1e-5);
  });
});

describe("loading", () => {
  const device = openForTests("reference");

  /** Every tensor that the device creates while `work` runs. */
  async function tensorsDuring(work: () => Promise<unknown>, each?: (tensor: Tensor, alive: number) => void) {
    const tensors: Tensor[] = [];
    const empty = device().empty.bind(device());
    const spy = vi.spyOn(device(), "empty").mockImplementation((shape, dtype) => {
      const tensor = empty(shape, dtype);
      tensors.push(tensor);
      each?.(tensor, tensors.filter(({ disposed }) => !disposed).length);
      return tensor as never;
    });
    try {
      await work();
    } finally {
      spy.mockRestore();
    }
    return tensors;
  }

  test("reports every byte, in order", async () => {
    const model = await goldenModel("mixtral_small");
    const total = [...model.weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    const reported: number[] = [];
    using _layer = await load(model, device(), {
      onProgress: ({ bytesRead, bytesTotal }) => {
        expect(bytesTotal).toBe(total);
        reported.push(bytesRead);
      },
    });
    expect(reported).toHaveLength(model.weights.size);
    expect(reported).toEqual(reported.toSorted((a, b) => a - b));
    expect(reported.at(-1)).toBe(total);
  });

  test("keeps no more than two experts' tensors besides the layer, and frees them", async () => {
    const model = await goldenModel("olmoe_mid");
    let most = 0;
    const tensors = await tensorsDuring(
      async () => (await load(model, device())).dispose(),
      (_, alive) => {
        most = Math.max(most, alive);
      },
    );
    expect(most).toBeLessThanOrEqual(6);
    expect(tensors).toHaveLength(model.weights.size);
    expect(tensors.every(({ disposed }) => disposed)).toBe(true);
  });

  test("reads stacked experts one after another, each byte once", async () => {
    using directory = temporaryDirectory();
    const { config, weights: apart } = await readFamilyModel("mixtral");
    const weights = stackExperts(apart);
    await writeModel(directory.path, { config, weights });
    const total = [...weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    let last = { bytesRead: 0, bytesTotal: 0 };
    let most = 0;
    const onProgress: LoadOptions["onProgress"] = (progress) => {
      last = progress;
    };
    const tensors = await tensorsDuring(
      async () => (await MoeLayer.load(directory.path, { layer: 2, device: device(), onProgress })).dispose(),
      (_, alive) => {
        most = Math.max(most, alive);
      },
    );
    expect(last).toEqual({ bytesRead: total, bytesTotal: total });
    expect(most).toBeLessThanOrEqual(4);
    const ofExpert = [
      [20, 18],
      [18, 10],
    ];
    expect(tensors.map(({ shape }) => shape)).toEqual([[8, 18], ...Array.from({ length: 8 }, () => ofExpert).flat()]);
    expect(tensors.every(({ disposed }) => disposed)).toBe(true);
  });

  test("works on a device whose memory the host cannot address", async () => {
    const model = await goldenModel("mixtral_small");
    using mapped = await load(model, device());
    let unmapped: MoeLayer | undefined;
    await tensorsDuring(
      async () => {
        unmapped = await load(model, device());
      },
      ({ handle }) => vi.spyOn(handle, "map").mockReturnValueOnce(undefined),
    );
    using layer = unmapped as MoeLayer;
    expect(await outputOf(layer, model)).toEqual(await outputOf(mapped, model));
  });

  test("stops at a signal and frees the half-built layer", async () => {
    const model = await goldenModel("mixtral_small");
    const controller = new AbortController();
    const dispose = vi.spyOn(LayerParts.prototype, "dispose");
    let reports = 0;
    const onProgress = () => {
      reports += 1;
      if (reports === 5) controller.abort(new Error("enough"));
    };
    const tensors = await tensorsDuring(() =>
      expect(load(model, device(), { onProgress, signal: controller.signal })).rejects.toThrow("enough"),
    );
    expect(reports).toBe(5);
    expect(tensors.length).toBeLessThan(model.weights.size);
    expect(tensors.every(({ disposed }) => disposed)).toBe(true);
    expect(dispose).toHaveBeenCalledOnce();
    dispose.mockRestore();
  });
});

describe("what is missing or wrong is named", () => {
  const device = openForTests("reference");
  const router = "model.layers.0.block_sparse_moe.gate.weight";
  const up = "model.layers.0.block_sparse_moe.experts.3.w3.weight";

  async function failureOf(change: (model: Model) => void, options: Partial<LoadOptions> = {}): Promise<unknown> {
    const model = await goldenModel("mixtral_small");
    change(model);
    return await load(model, device(), options).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  const failure = (code: string, message: RegExp) =>
    expect.objectContaining({ name: "MoeError", code, message: expect.stringMatching(message) });
  const set =
    (fields: Record<string, unknown>) =>
    (model: Model): void => {
      Object.assign(model.config, fields);
    };

  test.each<[string, (model: Model) => void, RegExp]>([
    [
      "no model_type",
      set({ model_type: undefined }),
      /config\.json: model_type: expected a known model family, got none; say what/,
    ],
    [
      "an unknown model_type",
      set({ model_type: "llama" }),
      /config\.json: model_type: expected a known model family, got "llama"; say what .*`moe-kernels info --families` lists/,
    ],
    [
      "a misspelt model_type",
      set({ model_type: "Qwen3-Moe_" }),
      /got "Qwen3-Moe_"; did you mean "qwen3_moe"\? If not, say what a layer computes/,
    ],
    [
      "an unknown activation",
      set({ hidden_act: "relu2" }),
      /config\.json: hidden_act: expected one of "silu", .*, got "relu2"/,
    ],
    [
      "a size that is none",
      set({ hidden_size: "50" }),
      /config\.json: hidden_size: expected an integer >= 1, got "50"/,
    ],
    ["layers without end", set({ num_hidden_layers: 1e12 }), /num_hidden_layers: expected an integer from 1 to 4096/],
    ["no experts", set({ num_local_experts: 0 }), /num_local_experts: expected an integer >= 1, got 0/],
    ["k above E", set({ num_experts_per_tok: 8 }), /config\.json: topK: expected an integer from 1 to 7, got 8/],
    [
      "another hidden size than the weights have",
      set({ hidden_size: 51 }),
      /model\.safetensors: tensor "model.*gate\.weight": expected shape \[7, 51\] from the sizes in .*config\.json, got \[7, 50\]/,
    ],
    [
      "another intermediate size",
      set({ intermediate_size: 36 }),
      /tensor "model.*experts\.0\.w1\.weight": expected shape \[36, 50\] from .*, got \[37, 50\]/,
    ],
    ["more experts than there are", set({ num_local_experts: 8 }), /gate\.weight": expected shape \[8, 50\]/],
    [
      "no router",
      ({ weights }) => weights.delete(router),
      /model\.safetensors: expected a tensor "model.*gate\.weight", got none of that name \(tensors: 21\)/,
    ],
    [
      "no expert's weight",
      ({ weights }) => weights.delete(up),
      /model\.safetensors: expected a tensor "model.*experts\.3\.w3\.weight"/,
    ],
    [
      "quantised weights",
      ({ weights }) => weights.set(up, { dtype: "I8", shape: [37, 50], data: new Int8Array(37 * 50) }),
      /tensor "model.*experts\.3\.w3\.weight": expected dtype F32, F16 or BF16, or codes with scales, got I8/,
    ],
  ])("%s", async (_what, change, message) => {
    expect(await failureOf(change)).toEqual(failure("BAD_CHECKPOINT", message));
  });

  test("a layer that the model does not have", async () => {
    const range = failure("INVALID_ARGUMENT", /^layer: expected an integer from 0 to 31, got 32$/);
    expect(await failureOf(set({ num_hidden_layers: undefined }), { layer: 32 })).toEqual(range);
    for (const layer of [-1, 0.5, "0", undefined]) {
      const options = { layer } as Partial<LoadOptions>;
      expect(await failureOf(() => {}, options)).toEqual(failure("INVALID_ARGUMENT", /^layer: expected an integer/));
    }
  });

  test("a dense layer", async () => {
    const fields = { model_type: "qwen3_moe", num_hidden_layers: 8, decoder_sparse_step: 2, mlp_only_layers: [3] };
    for (const layer of [2, 3]) {
      const message = new RegExp(`^layer: expected a layer with experts \\(1, 5, 7\\), got ${layer}$`);
      expect(await failureOf(set(fields), { layer })).toEqual(failure("INVALID_ARGUMENT", message));
    }
    const none = failure("INVALID_ARGUMENT", /this model has none/);
    expect(await failureOf(set({ ...fields, decoder_sparse_step: 9 }), { layer: 2 })).toEqual(none);
  });

  test("not a device", async () => {
    const error = await failureOf(() => {}, { device: "cpu" as never });
    expect(error).toEqual(
      failure("INVALID_ARGUMENT", /^device: expected a Device, as openDevice\(name\) makes, got "cpu"$/),
    );
  });

  test("a dtype that weights cannot have", async () => {
    const integers = await failureOf(() => {}, { dtype: "i32" });
    expect(integers).toEqual(failure("UNSUPPORTED_DTYPE", /^dtype: expected f32, f16 or bf16, got i32/));
    const unknown = await failureOf(() => {}, { dtype: "float16" });
    expect(unknown).toEqual(
      failure("INVALID_ARGUMENT", /^dtype: expected f32, f16, bf16 or a weight format such as "int4/),
    );
  });

  test("no directory, no configuration, a broken one, no weights", async () => {
    using directory = temporaryDirectory();
    const loadIt = (path = directory.path) => MoeLayer.load(path, { layer: 0, device: device() });
    const missing = join(directory.path, "missing");
    await expect(loadIt(missing)).rejects.toEqual(
      failure("BAD_CHECKPOINT", /missing: expected a model directory, .*, got no such file or directory$/),
    );
    await expect(loadIt()).rejects.toEqual(
      failure("BAD_CHECKPOINT", /expected config\.json in the directory, got an empty folder$/),
    );
    await expect(MoeLayer.load(directory.path, undefined as never)).rejects.toEqual(
      failure("INVALID_ARGUMENT", /^options: expected an object such as \{ layer: 0, device \}, got undefined$/),
    );
    await expect(loadIt(7 as never)).rejects.toEqual(
      failure("INVALID_ARGUMENT", /^path: expected a path or a file: URL, got 7$/),
    );
    const config = join(directory.path, "config.json");
    for (const text of ["", "{", "[]", "null", '{"a":1,"a":2}']) {
      writeFileSync(config, text);
      await expect(loadIt()).rejects.toEqual(failure("BAD_CHECKPOINT", /config\.json: expected /));
    }
    writeFileSync(config, JSON.stringify({ model_type: "mixtral" }));
    await expect(loadIt()).rejects.toEqual(
      failure("BAD_CHECKPOINT", /expected model\.safetensors or model\.safetensors\.index/),
    );
  });
});
