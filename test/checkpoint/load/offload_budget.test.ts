import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { offloadPolicies } from "../../../lib/core/device/backend.js";
import { type Device, MoeLayer, OffloadBudget, type OffloadOptions } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { needs } from "../../support/requirements.js";
import { modelDirectory } from "../support/cached_model.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const load = (path: string, device: Device, offload: OffloadOptions) =>
  MoeLayer.load(path, { layer: 0, device, cache: true, offload });

/** Expects all layers to give the same bits for tokens drawn from `random`. */
function expectSame(layers: readonly MoeLayer[], random: Random, tokens: number): void {
  const { hiddenSize } = (layers[0] as MoeLayer).description;
  const values = random.normals(tokens * hiddenSize);
  const [first, ...others] = layers.map((layer) => {
    using x = layer.device.tensor(values, [tokens, hiddenSize], "f32");
    using y = layer.forward(x);
    return y.rawSync();
  });
  for (const other of others) expect(other).toEqual(first);
}

/** Bytes of a layer's mapped file that are in the process's memory. */
function residentBytes({ cacheStatus }: MoeLayer): number {
  const maps = readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const own = maps.filter((map) => map.split("\n")[0]?.endsWith(cacheStatus?.path as string));
  expect(own).toHaveLength(1);
  return own.reduce((sum, map) => sum + 1024 * Number(/^Rss:\s+(\d+) kB$/m.exec(map)?.[1]), 0);
}

const large = { hiddenSize: 256, intermediateSize: 512, numExperts: 8 };

/** A model of three layers whose experts are larger than what the system maps around a page. */
async function writeLargeModel(path: string): Promise<void> {
  const { hiddenSize, intermediateSize, numExperts } = large;
  const random = new Random(1);
  const weights = new Map<string, SafetensorsInput>();
  const add = (name: string, rows: number, columns: number) =>
    weights.set(name, { dtype: "F32", shape: [rows, columns], data: random.normals(rows * columns, 0.05) });
  for (let layer = 0; layer < 3; layer++) {
    const block = `model.layers.${layer}.block_sparse_moe`;
    add(`${block}.gate.weight`, numExperts, hiddenSize);
    for (let expert = 0; expert < numExperts; expert++) {
      add(`${block}.experts.${expert}.w1.weight`, intermediateSize, hiddenSize);
      add(`${block}.experts.${expert}.w2.weight`, hiddenSize, intermediateSize);
      add(`${block}.experts.${expert}.w3.weight`, intermediateSize, hiddenSize);
    }
  }
  const sizes = { hidden_size: hiddenSize, intermediate_size: intermediateSize, num_local_experts: numExperts };
  const config = { model_type: "mixtral", num_hidden_layers: 3, hidden_act: "silu", num_experts_per_tok: 2, ...sizes };
  await writeModel(path, { config, weights });
}

describe("layers of cache files that share a budget on cpu", () => {
  const device = openForTests("cpu");
  const simt = openForTests("simt");

  test("give the same bits as without, whatever the others do in between", async () => {
    using directory = await modelDirectory("olmoe_mid");
    const { path } = directory;
    using whole = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    const { numExperts } = whole.description;
    const anyCalls = fc.record({
      slots: fc.integer({ min: 1, max: 3 * numExperts }),
      policy: fc.constantFrom(...offloadPolicies),
      seed: fc.nat(),
      calls: fc.array(
        fc.record({
          layer: fc.nat(2),
          does: fc.constantFrom("forward" as const, "forward" as const, "prefetch" as const, "renew" as const),
          amount: fc.integer({ min: 1, max: 30 }),
        }),
        { minLength: 4, maxLength: 10 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(anyCalls, async ({ slots, policy, seed, calls }) => {
        using budget = new OffloadBudget(device(), { slots, policy });
        const layers = await Promise.all([0, 1, 2].map(() => load(path, device(), { budget })));
        const random = new Random(seed);
        for (const { layer, does, amount } of calls) {
          const chosen = layers[layer] as MoeLayer;
          if (does === "forward") expectSame([chosen, whole], random, amount);
          else if (does === "prefetch") {
            chosen.offload?.prefetch(Array.from({ length: amount }, () => Math.floor(random.uniform() * numExperts)));
          } else {
            chosen.dispose();
            layers[layer] = await load(path, device(), { budget });
          }
        }
        const stats = await budget.stats();
        expect(stats.residentBytes).toBeLessThanOrEqual(slots * stats.expertBytes);
        for (const layer of layers) layer.dispose();
        expect(await budget.stats()).toMatchObject({ layers: 0, slots: 0, residentBytes: 0 });
      }),
      { numRuns: 15 },
    );
  });

  test("count as on the other devices", async () => {
    using directory = await modelDirectory("olmoe_mid");
    const { path } = directory;
    using here = new OffloadBudget(device(), { slots: 20 });
    using there = new OffloadBudget(simt(), { slots: 20 });
    const layers = await Promise.all([0, 1].map(() => load(path, device(), { budget: here, pinned: [3] })));
    const others = await Promise.all(
      [0, 1].map(() => MoeLayer.load(path, { layer: 0, device: simt(), offload: { budget: there, pinned: [3] } })),
    );
    const random = new Random(2);
    for (const index of [0, 1, 1, 0, 0, 1]) {
      const [layer, other] = [layers[index], others[index]] as [MoeLayer, MoeLayer];
      const { hiddenSize } = layer.description;
      const values = random.normals(3 * hiddenSize);
      for (const each of [layer, other]) {
        using x = each.device.tensor(values, [3, hiddenSize], "f32");
        each.forward(x).dispose();
        each.offload?.prefetch([1, 2]);
      }
    }
    const bytes = { expertBytes: 0, loadedBytes: 0, residentBytes: 0 };
    const stats = await here.stats();
    expect({ ...stats, ...bytes }).toEqual({ ...(await there.stats()), ...bytes });
    expect(Math.min(stats.misses, stats.evictions, stats.prefetched)).toBeGreaterThan(0);
    expect(stats.residentBytes).toBe(20 * stats.expertBytes);
    for (const index of [0, 1]) {
      const [own, other] = await Promise.all([layers[index]?.offload?.stats(), others[index]?.offload?.stats()]);
      expect({ ...own, ...bytes }).toEqual({ ...other, ...bytes });
      expect(own?.resident).toContain(3);
    }
    for (const layer of [...layers, ...others]) layer.dispose();
  });

  test("give the memory of experts back that others evict", needs("Linux"), async () => {
    using directory = temporaryDirectory();
    const { path } = directory;
    await writeLargeModel(path);
    using budget = new OffloadBudget(device(), { slots: 4 });
    const layers: MoeLayer[] = [];
    for (let layer = 0; layer < 3; layer++) {
      layers.push(await MoeLayer.load(path, { layer, device: device(), cache: true, offload: { budget } }));
    }
    const { expertBytes } = await budget.stats();
    expect(budget.byteLength).toBe(4 * expertBytes);
    // The system may map pages around those that are read, so only what an eviction gives back can be told exactly.
    const random = new Random(3);
    for (const index of [0, 1, 2, 0]) {
      const layer = layers[index] as MoeLayer;
      const others = layers.filter((other) => other !== layer);
      expectSame([layer], random, 40);
      const before = residentBytes(layer);
      expect((await layer.offload?.stats())?.resident).toHaveLength(4);
      expect(before).toBeGreaterThan(4 * expertBytes);
      for (const other of others) expectSame([other], random, 1);
      for (const other of others) expectSame([other], random, 40);
      expect((await layer.offload?.stats())?.resident).toEqual([]);
      expect(residentBytes(layer)).toBeLessThanOrEqual(before - 4 * expertBytes);
      const { residentBytes: together } = await budget.stats();
      expect(together).toBe(budget.byteLength);
    }
    for (const layer of layers) layer.dispose();
  });

  test("are captured while all of their experts fit", async () => {
    using directory = await modelDirectory();
    const { path } = directory;
    using budget = new OffloadBudget(device(), { slots: 128 });
    using whole = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    using first = await load(path, device(), { budget });
    using second = await load(path, device(), { budget });
    const { numExperts, hiddenSize } = whole.description;
    const random = new Random(4);
    expectSame([first, whole], random, 20);
    using captured = first.capture(2);
    captured.x.write(random.normals(2 * hiddenSize));
    captured.replay();
    using expected = whole.forward(captured.x);
    expect(await captured.y.raw()).toEqual(await expected.raw());
    using small = new OffloadBudget(device(), { slots: 2 * numExperts - 1 });
    using third = await load(path, device(), { budget: small });
    {
      using held = third.capture(2);
      expect(held.x.shape).toEqual([2, hiddenSize]);
      const refused = load(path, device(), { budget: small });
      await expectRejection(refused, "UNSUPPORTED_OPERATION", /^offload\.budget: expected a layer whose experts have/);
    }
    using fourth = await load(path, device(), { budget: small });
    using other = await modelDirectory("mixtral_mid");
    const sizes = /^offload\.budget: expected experts of \d+ \+ \d+ bytes as the budget's other layers have, got \d+/;
    await expectRejection(load(other.path, device(), { budget: small }), "INVALID_ARGUMENT", sizes);
    const message = /^capture: .* slots for \d+ experts of 2 layers/;
    for (const layer of [third, fourth]) expectError(() => layer.capture(2), "UNSUPPORTED_OPERATION", message);
    expectSame([third, fourth, second, whole], random, 5);
  });
});
