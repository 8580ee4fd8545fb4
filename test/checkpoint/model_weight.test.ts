import { copyFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Device,
  dequantize,
  linear,
  MoeLayer,
  type MoeLayerOptions,
  openModel,
  type Progress,
  packExperts,
  type StoredRole,
  Tensor,
} from "../../lib/index.js";
import { Random } from "../../lib/testing/random.js";
import { relativeError } from "../../lib/testing/run.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectRejection } from "../support/errors.js";
import { randomLayer, valuesOf, writeOne } from "./support/gguf_layer.js";
import { temporaryDirectory } from "./support/temporary_directory.js";

const root = "test/golden/quantised";

/** The weights of a layer without shared experts whose tensors hold one weight each, by role. */
async function singleWeights(path: string): Promise<readonly StoredRole[] | undefined> {
  await using model = await openModel(path);
  const { groups } = await model.inspect({ layer: 0, tokens: [1] });
  const roles = groups[0]?.storage?.roles as readonly StoredRole[];
  const single = roles.every(({ role, layout }) => !role.startsWith("shared") && Object.keys(layout).length === 0);
  return single ? roles : undefined;
}

const cases: (readonly [name: string, roles: readonly StoredRole[]])[] = [];
for (const entry of readdirSync(root, { withFileTypes: true })) {
  const roles = entry.isDirectory() ? await singleWeights(join(root, entry.name)) : undefined;
  if (roles !== undefined) cases.push([entry.name, roles]);
}

/** A layer whose weights were read one by one. */
async function layerOfWeights(path: string, roles: readonly StoredRole[], device: Device): Promise<MoeLayer> {
  await using model = await openModel(path);
  const { config } = model.layer(0);
  const read = async ({ name, shape }: StoredRole, expert = 0) => {
    const stored = name.replaceAll("{e}", String(expert));
    expect(model.hasWeight(stored)).toBe(true);
    return await model.weight(stored, { device, shape });
  };
  const options: Record<string, unknown> = {};
  const experts: Record<string, unknown>[] = Array.from({ length: config.numExperts }, () => ({}));
  for (const role of roles) {
    const [set, ofExpert] = role.role.split(".") as [string, string | undefined];
    if (ofExpert !== undefined) {
      for (const [index, expert] of experts.entries()) expert[ofExpert] = await read(role, index);
      continue;
    }
    const weight = await read(role);
    options[set] = weight instanceof Tensor ? weight : dequantize(weight);
  }
  return MoeLayer.create({ ...config, ...options, device, experts } as unknown as MoeLayerOptions);
}

describe("weights of a model", () => {
  const device = openForTests("cpu");

  test("are of most ways in which files store them", () => {
    expect(cases.length).toBeGreaterThan(45);
  });

  // Experts stand for any matrix here.
  test.each(cases)("%s", async (name, roles) => {
    const path = join(root, name);
    using loaded = await MoeLayer.load(path, { layer: 0, device: device(), dtype: {} });
    using layer = await layerOfWeights(path, roles, device());
    const { hiddenSize } = loaded.description;
    using x = device().tensor(
      Float32Array.from({ length: 3 * hiddenSize }, (_, i) => Math.sin(i)),
      [3, hiddenSize],
    );
    using expected = loaded.forward(x);
    using y = layer.forward(x);
    expect(relativeError(await y.data(), Float64Array.from(await expected.data()))).toBeLessThan(1e-6);
  });
});

describe.each(deviceNames)("weights of a GGUF file on %s", (name) => {
  const device = openForTests(name);

  test.each(["Q4_K", "Q6_K", "Q8_0", "IQ2_XXS", "MXFP4", "F16"] as const)("%s", async (type) => {
    using directory = temporaryDirectory();
    const layer = randomLayer(new Random(`weight ${type}`), { hidden: 256, shared: 256, sharedType: type });
    const path = writeOne(directory.path, layer.file);
    await using model = await openModel(path);
    const shape = [256, 256];
    const { data } = layer.file.tensors.find(({ name }) => name === "blk.0.ffn_up_shexp.weight") as {
      data: Uint8Array;
    };
    const values = valuesOf(type, data);
    const progress: Progress[] = [];
    const onProgress = (now: Progress) => void progress.push({ ...now });
    using weight = await model.weight("blk.0.ffn_up_shexp.weight", { device: device(), shape, onProgress });
    expect(progress.at(-1)).toEqual({ bytesRead: data.byteLength, bytesTotal: data.byteLength });
    using floats = weight instanceof Tensor ? weight.reshape(shape) : dequantize(weight);
    expect(relativeError(await floats.data(), values)).toBeLessThan(1e-6);
    const x = Float32Array.from({ length: 2 * 256 }, (_, i) => Math.sin(i));
    const products = Float64Array.from({ length: 2 * 256 }, (_, i) => {
      const [token, row] = [Math.floor(i / 256), i % 256];
      return x
        .subarray(token * 256, (token + 1) * 256)
        .reduce((sum, value, k) => sum + value * (values[row * 256 + k] as number), 0);
    });
    using tokens = device().tensor(x, [2, 256]);
    using packed = packExperts(weight);
    expect(packed.shape).toEqual([1, 256, 256]);
    for (const given of [weight, packed]) {
      using y = linear(tokens, given);
      expect(relativeError(await y.data(), products)).toBeLessThan(1e-5);
    }
  });
});

describe("a weight that cannot be read", () => {
  const device = openForTests("cpu");
  const path = "test/golden/language_models/qwen3_moe";
  const name = "model.layers.0.self_attn.q_proj.weight";

  test("is refused by name", async () => {
    await using model = await openModel(path);
    const weight = (of: string, shape: readonly number[]) => model.weight(of, { device: device(), shape });
    await expectRejection(
      weight("q_proj", [32, 32]),
      "BAD_CHECKPOINT",
      /expected a tensor "q_proj", got none of that name/,
    );
    expect([name, "q_proj"].map((one) => model.hasWeight(one))).toEqual([true, false]);
    await expectRejection(
      weight(name, [32, 16]),
      "BAD_CHECKPOINT",
      /q_proj\.weight": expected shape \[32, 16\] from the option shape, got \[32, 32\]$/,
    );
    await expectRejection(
      weight(name, [2, 16, 32]),
      "INVALID_ARGUMENT",
      /shape: expected \[N\] or \[N, K\], got \[2, 16, 32\]/,
    );
    await expectRejection(weight(name, [32, 0]), "INVALID_ARGUMENT", /shape\[1\]: expected .*, got 0/);
    await expectRejection(weight(1 as never, [32, 32]), "INVALID_ARGUMENT", /^name: expected a string, got 1/);
    using norm = await weight("model.norm.weight", [32]);
    expect(norm).toMatchObject({ shape: [32], dtype: "bf16" });
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(model.weight(name, { device: device(), shape: [32, 32], signal })).rejects.toThrow("stop");
    await model.close();
    await expectRejection(weight(name, [32, 32]), "DISPOSED", /used after close\(\)/);
  });

  test("for there are no weights", async () => {
    using directory = temporaryDirectory();
    copyFileSync(join(path, "config.json"), join(directory.path, "config.json"));
    await using model = await openModel(directory.path);
    expect(model.hasWeight(name)).toBe(false);
    await expectRejection(model.weight(name, { device: device(), shape: [32, 32] }), "BAD_CHECKPOINT", /got neither$/);
  });
});
