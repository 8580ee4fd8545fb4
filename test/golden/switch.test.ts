import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openLayerFile } from "../../lib/checkpoint/layer_file/layer_file.js";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { limitCapacity } from "../../lib/operators/routing/limit_capacity.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const directory = join(import.meta.dirname, "switch");
const files = readdirSync(directory);

describe.each(kernelPaths)("Switch's capacity on $label", (path) => {
  const device = openForTests(path);

  test.each(files)("%s: the choices that are kept for the stored router logits", async (name) => {
    const { config, shape } = await openLayerFile(join(directory, name));
    await using file = await SafetensorsFile.open(join(directory, name));
    const logits = await file.read("router_logits");
    const chosen = gating(device().tensor(logits.data as Float32Array, logits.shape), { topK: config.topK });
    const capacity = config.capacity ?? {};
    expect(capacity.per).toBe("sequence");
    const sequenceLength = shape.at(-2) as number;
    const kept = limitCapacity(chosen, { ...capacity, numExperts: config.numExperts, sequenceLength });
    const expected = (await file.read("kept")).data as Int32Array;
    expect(kept.ids.dataSync().map((id) => (id >= 0 ? 1 : 0))).toEqual(expected);
    const ids = (await file.read("topk_ids")).data as Int32Array;
    expect(kept.ids.dataSync()).toEqual(ids.map((id, slot) => (expected[slot] === 1 ? id : -1)));
  });
});

test("the files have dropped choices and sequences", async () => {
  expect(files.length).toBe(4);
  await using file = await SafetensorsFile.open(join(directory, "switch_batched.safetensors"));
  expect((await file.read("kept")).data as Int32Array).toContain(0);
  expect((await openLayerFile(join(directory, "switch_batched.safetensors"))).shape).toEqual([3, 11, 44]);
});
