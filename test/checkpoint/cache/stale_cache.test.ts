import { readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { modelDirectory, run } from "../support/cached_model.js";
import { type Model, writeModel } from "../support/model_directory.js";

describe("a cache that does not fit", () => {
  const device = openForTests("cpu");

  const changes: Record<string, (directory: { path: string; model: Model }) => unknown> = {
    "a changed weight": async ({ path, model }) => {
      const [name, tensor] = [...model.weights][0] as [string, SafetensorsInput];
      const data = (tensor.data as Float32Array).slice();
      data[0] = 1;
      model.weights.set(name, { ...tensor, data });
      // Again where the file system's clock has not moved on since the first time.
      const modified = () => statSync(join(path, "model.safetensors"), { bigint: true }).mtimeNs;
      for (const before = modified(); modified() === before; ) await writeModel(path, model);
    },
    "another time of a file": ({ path }) => utimesSync(join(path, "model.safetensors"), 1, 1),
    "another file": ({ path }) => writeSafetensors(join(path, "more.safetensors"), {}),
  };
  test.each(Object.entries(changes))("is rebuilt for %s", async (_what, change) => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    await run(path, model, device());
    await change(directory);
    using fresh = await MoeLayer.load(path, { layer: 0, device: device() });
    const { x: tokens, shape } = model.layerFile;
    using x = device().tensor(tokens, shape);
    using y = fresh.forward(x);
    const again = await run(path, model, device());
    expect(again.status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/expected the same checkpoint$/),
    });
    expect(again.result[0]).toEqual(await y.raw());
    expect((await run(path, model, device())).status.state).toBe("mapped");
  });

  test("is rebuilt for another configuration", async () => {
    using directory = await modelDirectory("qwen3_moe_norm_small");
    const { path, model } = directory;
    await run(path, model, device());
    model.config.num_experts_per_tok = 1;
    writeFileSync(join(path, "config.json"), JSON.stringify(model.config));
    const { status, result } = await run(path, model, device());
    expect(status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/expected the same configuration$/),
    });
    expect(result[3]).toMatchObject({ topK: 1 });
  });

  test("is rebuilt for another version of the package", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { status } = await run(path, model, device());
    await rewrite(status.path, { package: "moe-kernels 0.0.0" });
    expect((await run(path, model, device())).status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/expected package moe-kernels \S+, got moe-kernels 0\.0\.0$/),
    });
  });

  /** Rewrites a cache file with other metadata. */
  async function rewrite(path: string, changed: Record<string, string>): Promise<void> {
    const tensors = new Map();
    let metadata = {};
    {
      await using file = await SafetensorsFile.open(path);
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      metadata = { ...file.metadata, ...changed };
    }
    await writeSafetensors(path, tensors, { metadata });
  }

  const damages: Record<string, (path: string) => unknown> = {
    "an empty file": (path) => truncateSync(path, 0),
    "a file without its end": (path) => truncateSync(path, statSync(path).size - 1),
    "a file with trailing bytes": (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(9)])),
    "a broken header": (path) => writeFileSync(path, readFileSync(path).fill(0x7b, 8, 60)),
    "another dtype than it says": (path) => rewrite(path, { storage: JSON.stringify({ router: "bf16" }) }),
    "a dtype that weights cannot have": (path) => rewrite(path, { storage: "f8" }),
    "no tensors": async (path) => {
      await using file = await SafetensorsFile.open(path);
      await writeSafetensors(path, {}, { metadata: file.metadata });
    },
    "a part too many": async (path) => {
      await using file = await SafetensorsFile.open(path);
      const tensors = new Map();
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      tensors.set("more", { dtype: "U8", shape: [1], data: new Uint8Array(1) });
      await writeSafetensors(path, tensors, { metadata: file.metadata });
    },
  };
  test.each(Object.entries(damages))("is rebuilt instead of %s, and says why", async (_what, damage) => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const first = await run(path, model, device());
    await damage(first.status.path);
    const again = await run(path, model, device());
    expect(again.result).toEqual(first.result);
    expect(again.status.reason.length).toBeGreaterThan(10);
    expect(again.status.state).toBe("written");
    expect((await run(path, model, device())).status.state).toBe("mapped");
  });
});
