import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { openLayerFile } from "../../../lib/checkpoint/layer_file/layer_file.js";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { openModel } from "../../../lib/moe_model.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { exampleConfig } from "../../support/random_layer.js";
import { layerOf } from "../../support/saved_layers.js";
import { familyModelPath, readFamilyResults } from "../support/family_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** What the file system does not do. */
const failing = vi.hoisted(() => ({ write: false, link: false }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const fail = (code: string, syscall: string) => Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });
  return {
    ...original,
    open: async (path: string, ...rest: []) => {
      const handle = await original.open(path, ...rest);
      const write = async () => {
        throw fail("ENOSPC", "write");
      };
      if (failing.write && path.endsWith(".tmp")) Object.assign(handle, { write } as unknown as Partial<FileHandle>);
      return handle;
    },
    link: async (from: string, to: string) => {
      if (failing.link) throw fail("EPERM", "link");
      await original.link(from, to);
    },
  };
});

beforeEach(() => {
  Object.assign(failing, { write: false, link: false });
});

const config = { ...exampleConfig, hiddenSize: 8, intermediateSize: 4, numExperts: 2, topK: 1 };

/** A folder, and the path of a layer's file in it. */
function folder() {
  const directory = temporaryDirectory();
  const path = join(directory.path, "layer.safetensors");
  return {
    path,
    names: () => readdirSync(directory.path).toSorted(),
    [Symbol.dispose]: () => directory[Symbol.dispose](),
  };
}

describe("writing a layer's file", () => {
  const device = openForTests("reference");
  const small = () => layerOf(device(), config);

  test("names tensors after the options of MoeLayer.create", async () => {
    using at = folder();
    using layer = layerOf(device(), {
      ...config,
      sharedExpert: { intermediateSize: 6, gate: "sigmoid" },
      dtype: "bf16",
    });
    await layer.save(at.path);
    await using file = await SafetensorsFile.open(at.path);
    expect(Object.fromEntries([...file.tensors].map(([name, { dtype, shape }]) => [name, [dtype, ...shape]]))).toEqual({
      router: ["BF16", 2, 8],
      routerBias: ["F32", 2],
      selectionBias: ["F32", 2],
      ...Object.fromEntries(
        [0, 1].flatMap((expert) => [
          [`experts.${expert}.gate`, ["BF16", 4, 8]],
          [`experts.${expert}.up`, ["BF16", 4, 8]],
          [`experts.${expert}.down`, ["BF16", 8, 4]],
          [`experts.${expert}.gateBias`, ["F32", 4]],
          [`experts.${expert}.upBias`, ["F32", 4]],
          [`experts.${expert}.downBias`, ["F32", 8]],
        ]),
      ),
      "shared.gate": ["BF16", 6, 8],
      "shared.up": ["BF16", 6, 8],
      "shared.down": ["BF16", 8, 6],
      "shared.gateBias": ["F32", 6],
      "shared.upBias": ["F32", 6],
      "shared.downBias": ["F32", 8],
      sharedGate: ["BF16", 1, 8],
      sharedGateBias: ["F32", 1],
    });
    expect(Object.keys(file.metadata)).toEqual(["layer_version", "config", "storage"]);
    expect(file.metadata.layer_version).toBe("2");
  });

  test("reports progress up to the file's size", async () => {
    using at = folder();
    using layer = small();
    const seen: number[][] = [];
    await layer.save(at.path, { onProgress: ({ bytesWritten, bytesTotal }) => seen.push([bytesWritten, bytesTotal]) });
    const { size } = statSync(at.path);
    expect(seen.at(-1)).toEqual([size, size]);
    expect(seen.length).toBeGreaterThan(10);
    expect(at.names()).toEqual(["layer.safetensors"]);
  });

  test.each([false, true])("never replaces a file unasked (without hard links: %s)", async (link) => {
    failing.link = link;
    using at = folder();
    using layer = small();
    writeFileSync(at.path, "mine");
    await expectRejection(
      layer.save(at.path),
      "INVALID_ARGUMENT",
      /layer\.safetensors already exists; pass overwrite: true/,
    );
    expect(readFileSync(at.path, "utf8")).toBe("mine");
    await layer.save(at.path, { overwrite: true });
    using loaded = await MoeLayer.load(at.path, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    expect(at.names()).toEqual(["layer.safetensors"]);
  });

  test.each([false, true])("does not replace a file that appears meanwhile (without hard links: %s)", async (link) => {
    failing.link = link;
    using at = folder();
    using layer = small();
    const saving = layer.save(at.path, { onProgress: () => writeFileSync(at.path, "mine") });
    await expectRejection(saving, "INVALID_ARGUMENT", /already exists/);
    expect(readFileSync(at.path, "utf8")).toBe("mine");
    expect(at.names()).toEqual(["layer.safetensors"]);
  });

  test("works without hard links", async () => {
    failing.link = true;
    using at = folder();
    using layer = small();
    await layer.save(at.path);
    expect(at.names()).toEqual(["layer.safetensors"]);
  });

  test("leaves nothing if it is aborted", async () => {
    using at = folder();
    using layer = small();
    await expect(layer.save(at.path, { signal: AbortSignal.abort("early") })).rejects.toBe("early");
    const controller = new AbortController();
    const saving = layer.save(at.path, { signal: controller.signal, onProgress: () => controller.abort("late") });
    await expect(saving).rejects.toBe("late");
    expect(at.names()).toEqual([]);
  });

  test("leaves nothing, or the old file, on a full disk", async () => {
    using at = folder();
    using layer = small();
    failing.write = true;
    await expectRejection(layer.save(at.path), "WRITE_FAILED", /layer\.safetensors: cannot be written: ENOSPC/);
    expect(at.names()).toEqual([]);
    writeFileSync(at.path, "mine");
    await expectRejection(layer.save(at.path, { overwrite: true }), "WRITE_FAILED", /ENOSPC/);
    expect(readFileSync(at.path, "utf8")).toBe("mine");
  });

  test("names what is wrong with a path", async () => {
    using at = folder();
    using layer = small();
    await expectRejection(layer.save("layer.bin"), "INVALID_ARGUMENT", /file: expected a path that ends in \.safe/);
    await expectRejection(layer.save(7 as never), "INVALID_ARGUMENT", /file: expected a path or a file: URL, got 7/);
    const missing = join(at.path, "..", "none", "layer.safetensors");
    await expectRejection(layer.save(missing), "WRITE_FAILED", /cannot be written: ENOENT/);
  });

  test("needs the layer and its device", async () => {
    using at = folder();
    const layer = small();
    const disposing = layer.save(at.path, { onProgress: () => layer.dispose() });
    await expectRejection(disposing, "DISPOSED", /layer: used after dispose/);
    await expectRejection(layer.save(at.path), "DISPOSED", /layer: used after dispose/);
    const own = openDevice("reference");
    using other = layerOf(own, config);
    own.dispose();
    await expectRejection(other.save(at.path), "DISPOSED", /used after dispose/);
    expect(at.names()).toEqual([]);
  });

  test("refuses weights that change meanwhile", async () => {
    using at = folder();
    using layer = small();
    using bias = device().zeros([2], "f32");
    const saving = layer.save(at.path, { onProgress: () => layer.setSelectionBias(bias) });
    await expectRejection(saving, "INVALID_ARGUMENT", /save: the layer's weights changed while it was being saved/);
    expect(at.names()).toEqual([]);
  });

  test("refuses experts that come and go", async () => {
    using simt = openDevice("simt");
    using at = folder();
    using layer = layerOf(simt, { ...config, offload: { slots: 1 } });
    await expectRejection(layer.save(at.path), "UNSUPPORTED_OPERATION", /without offload; load it without offload/);
    expect(existsSync(at.path)).toBe(false);
  });
});

describe("reading a saved layer's file", () => {
  const device = openForTests("reference");

  interface Contents {
    readonly tensors: Map<string, SafetensorsInput>;
    readonly metadata: Record<string, string>;
  }

  /** Loads a copy of a saved layer that was changed. */
  async function loadChanged(change: (contents: Contents) => void): Promise<MoeLayer> {
    using at = folder();
    using layer = layerOf(device(), { ...config, dtype: { experts: "i4_g16_f32" } });
    await layer.save(at.path);
    const tensors = new Map<string, SafetensorsInput>();
    const metadata = await (async () => {
      await using file = await SafetensorsFile.open(at.path);
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      return { ...file.metadata };
    })();
    change({ tensors, metadata });
    await writeSafetensors(at.path, tensors, { metadata });
    return await MoeLayer.load(at.path, { device: device() });
  }

  const set = (key: string, text: string | undefined) => (contents: Contents) => {
    if (text === undefined) delete contents.metadata[key];
    else contents.metadata[key] = text;
  };
  const edit = (key: string, from: string, to: string) => (contents: Contents) => {
    expect(contents.metadata[key]).toContain(from);
    contents.metadata[key] = (contents.metadata[key] as string).replace(from, to);
  };

  test.each<[string, (contents: Contents) => void, RegExp]>([
    [
      "a later version",
      set("layer_version", "3"),
      /__metadata__\.layer_version: expected "2", .*got "3"; a later release/,
    ],
    ["an empty version", set("layer_version", ""), /__metadata__\.layer_version: expected "2", .*got ""/],
    ["no configuration", set("config", undefined), /__metadata__\.config: expected JSON, got none/],
    ["no JSON", set("storage", "{"), /__metadata__\.storage/],
    ["an unknown option", edit("config", '"topK"', '"topN":1,"topK"'), /config: .*there is no option "topN"/],
    ["an impossible one", edit("config", '"topK":1', '"topK":9'), /topK: expected an integer from 1 to 2, got 9/],
    [
      "an unknown format",
      edit("storage", "i4_g16_f32", "i9"),
      /storage: .*formats\.gate: expected the name of a weight/,
    ],
    [
      "an impossible bank",
      edit("storage", '"count":2', '"count":3'),
      /bank: expected experts within 0 to 1, got 0 to 2/,
    ],
    ["a missing tensor", ({ tensors }) => tensors.delete("experts.1.up.codes"), /"experts\.1\.up\.codes", got none/],
    ["a missing bias", ({ tensors }) => tensors.delete("experts.1.upBias"), /"experts\.1\.upBias", got none/],
    [
      "a tensor of another layer",
      ({ tensors }) => tensors.set("experts.1.multiplier", tensors.get("experts.1.upBias") as SafetensorsInput),
      /expected no tensor "experts\.\{e\}\.multiplier", which the layer of this file does not have/,
    ],
    [
      "another shape",
      ({ tensors }) => tensors.set("router", tensors.get("experts.1.upBias") as SafetensorsInput),
      /"router": expected shape \[2, 8\] from the file's metadata, got \[4\]/,
    ],
    [
      "another dtype of scales",
      ({ tensors }) => tensors.set("experts.0.up.scales", tensors.get("experts.0.up.codes") as SafetensorsInput),
      /"experts\.0\.up\.scales": expected dtype F32 for i4_g16_f32, got U8/,
    ],
    [
      "weights that are no floats",
      ({ tensors }) => tensors.set("router", tensors.get("experts.0.up.codes") as SafetensorsInput),
      /"router": expected dtype F32, F16, BF16 or F64, got U8/,
    ],
  ])("%s is BAD_CHECKPOINT", async (_, change, message) => {
    await expectRejection(loadChanged(change), "BAD_CHECKPOINT", message);
  });

  test("a part of its experts", async () => {
    using at = folder();
    using layer = layerOf(device(), { ...config, numExperts: 6, bank: { first: 1, count: 4 } });
    await layer.save(at.path);
    using part = await MoeLayer.load(at.path, { device: device(), bank: { first: 2, count: 2 } });
    expect(part.description.bank).toEqual({ first: 2, count: 2 });
    const outside = MoeLayer.load(at.path, { device: device(), bank: { first: 0, count: 2 } });
    await expectRejection(
      outside,
      "INVALID_ARGUMENT",
      /bank: expected experts within 1 to 4, which the file has, got 0 to 1/,
    );
  });

  test("as a model of one layer", async () => {
    using at = folder();
    using layer = layerOf(device(), { ...config, numExperts: 6, bank: { first: 1, count: 4 }, dtype: "bf16" });
    await layer.save(at.path);
    await using model = await openModel(at.path);
    expect(model.layersWithExperts).toEqual([0]);
    using loaded = await model.load(0, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    const [group] = (await model.inspect()).groups;
    expect(group?.storage).toMatchObject({ missing: [], problems: [] });
    await expectRejection(
      openLayerFile(at.path),
      "BAD_CHECKPOINT",
      /got a layer that MoeLayer\.save wrote; MoeLayer\.load/,
    );
  });
});

describe("a layer over a cache", () => {
  test.each(["deepseek_v3", "gpt_oss", "qwen2_moe"])("of %s is saved as one whose weights were set", async (name) => {
    using directory = temporaryDirectory();
    using device = openDevice("cpu", { poison: true });
    const { layer: number, x: tokens, shape } = await readFamilyResults(name);
    const load = () => MoeLayer.load(familyModelPath(name), { layer: number, device, cache: directory.path });
    (await load()).dispose();
    using layer = await load();
    expect(layer.cacheStatus?.state).toBe("mapped");
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    using loaded = await MoeLayer.load(path, { device });
    using x = device.tensor(tokens, shape);
    using ours = layer.forward(x);
    using theirs = loaded.forward(x);
    expect(await theirs.raw()).toEqual(await ours.raw());
  });
});
