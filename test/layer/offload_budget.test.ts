import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { offloadPolicies } from "../../lib/core/device/backend.js";
import { MoeLayer, OffloadBudget, type OffloadBudgetOptions, openDevice, sort } from "../../lib/index.js";
import type { OffloadOptions } from "../../lib/layer/offload.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { BudgetLayers } from "../support/budget_layers.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";
import { anyLayer, exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";

const gpus = deviceNames.filter((name) => name !== "reference" && name !== "cpu");
const example: LayerProblem = { config: exampleConfig, tokens: 9, dtype: "f32", seed: 1 };
const { numExperts, hiddenSize } = exampleConfig;

const anyCalls = anyLayer.chain((problem) =>
  fc.record({
    problem: fc.constant(problem),
    count: fc.integer({ min: 3, max: 4 }),
    slots: fc.integer({ min: 1, max: 4 * problem.config.numExperts }),
    policy: fc.constantFrom(...offloadPolicies),
    calls: fc.array(
      fc.record({
        layer: fc.nat(3),
        does: fc.constantFrom("forward" as const, "forward" as const, "prefetch" as const, "renew" as const),
        amount: fc.integer({ min: 1, max: 20 }),
      }),
      { minLength: 4, maxLength: 10 },
    ),
  }),
);

describe.each(gpus)("layers that share a budget on %s", (name) => {
  const device = openForTests(name);

  test("give the same bits as resident layers, whatever the others do in between", async () => {
    await fc.assert(
      fc.asyncProperty(anyCalls, async ({ problem, count, slots, policy, calls }) => {
        using all = new BudgetLayers(device(), problem, count, { slots, policy });
        const random = new Random(problem.seed);
        let renewed = false;
        for (const { layer, does, amount } of calls) {
          const index = layer % count;
          if (does === "forward") all.expectSame(index, random, amount);
          else if (does === "prefetch") {
            const ids = Array.from({ length: amount }, () => Math.floor(random.uniform() * problem.config.numExperts));
            all.layer(index).offload?.prefetch(ids);
          } else {
            all.layer(index).dispose();
            all.layers[index] = all.create(index);
            renewed = true;
          }
        }
        for (let index = 0; index < count; index++) all.expectSame(index, random, 2);
        if (!renewed) await all.expectSums();
        const { residentBytes, expertBytes } = await all.budget.stats();
        expect(residentBytes).toBeLessThanOrEqual(slots * expertBytes);
        expect(all.budget.byteLength).toBe(slots * expertBytes);
      }),
      { numRuns: 25 },
    );
  });

  test("leave it when they are disposed of, also while work of theirs is enqueued", async () => {
    const pinned = [0, 1, 2];
    using all = new BudgetLayers(device(), example, 1, { slots: 4 }, { pinned });
    const x = device().tensor(new Random(5).normals(64 * hiddenSize), [64, hiddenSize], "f32");
    for (let round = 0; round < 20; round++) {
      const y = all.layer(0).forward(x);
      all.layer(0).dispose();
      // Its pinned experts would not fit beside those of the one before.
      all.layers[0] = all.create(0);
      y.dispose();
    }
    all.expectSame(0, new Random(6), 3);
  });

  test("are made after failed work without hiding its error", async () => {
    const other = openDevice(name);
    using budget = new OffloadBudget(other, { slots: 2 });
    using problem = new RandomLayer(other, example);
    const create = () => MoeLayer.create({ ...problem.options, offload: { budget, pinned: [0] } });
    using _first = create();
    // More experts than slots are pinned, so this one fails once it knows that no other layer is about to leave.
    sort(other.tensor(Int32Array.of(9), [1, 1]), { numExperts: 2 });
    expectError(() => create(), "INVALID_ARGUMENT", /offload\.pinned/);
    await expectRejection(other.synchronize(), "ID_OUT_OF_RANGE", /got 9/);
    other.dispose();
  });

  test("give the same bits while their calls are enqueued one behind the other", async () => {
    using all = new BudgetLayers(device(), example, 3, { slots: 4 });
    const random = new Random(4);
    const calls = Array.from({ length: 12 }, (_, call) => {
      const tokens = 1 + (call % 5);
      const x = device().tensor(random.normals(tokens * hiddenSize), [tokens, hiddenSize], "f32");
      const index = call % 3;
      const [y, expected] = [all.layer(index).forward(x), all.whole(index).layer.forward(x)];
      // A layer that leaves while work of others, and its own, is enqueued.
      if (call % 4 === 3) {
        all.layer(index).dispose();
        all.layers[index] = all.create(index);
      }
      return { y, expected };
    });
    for (const { y, expected } of calls) expect(await y.raw()).toEqual(await expected.raw());
    await all.budget.stats();
  });

  test("evict one another's experts by the policy", async () => {
    using all = new BudgetLayers(device(), example, 3, { slots: 2, policy: "lru" });
    const run = (index: number, ids: readonly number[]) => {
      using x = device().zeros([ids.length, hiddenSize], "f32");
      using chosen = device().tensor(Int32Array.from(ids), [ids.length, 1], "i32");
      using weights = device().tensor(new Float32Array(ids.length).fill(1), [ids.length, 1], "f32");
      all
        .layer(index)
        .forward(x, { routing: { ids: chosen, weights } })
        .dispose();
    };
    const resident = async () =>
      await Promise.all(all.layers.map(async (layer) => (await layer?.offload?.stats())?.resident));
    run(0, [1]);
    run(1, [1]);
    expect(await resident()).toEqual([[1], [1], []]);
    run(0, [1]);
    run(2, [5]);
    expect(await resident()).toEqual([[1], [], [5]]);
    run(1, [0, 3]);
    expect(await resident()).toEqual([[], [0, 3], []]);
    expect(await all.layer(0).offload?.stats()).toMatchObject({ calls: 2, hits: 1, misses: 1, evictions: 1 });
    expect(await all.layer(2).offload?.stats()).toMatchObject({ calls: 1, hits: 0, misses: 1, evictions: 1, slots: 2 });
    await all.expectSums();
  });

  test("keep the experts that are pinned, of every layer", async () => {
    using all = new BudgetLayers(device(), example, 3, { slots: 4 }, { pinned: [2] });
    const random = new Random(5);
    for (let call = 0; call < 6; call++) all.expectSame(call % 3, random, 20);
    for (const layer of all.layers) expect((await layer?.offload?.stats())?.resident).toContain(2);
    const message = /^offload\.pinned: expected fewer experts than the 4 slots, got 4 of all the budget's layers$/;
    expectError(() => all.create(0), "INVALID_ARGUMENT", message);
    all.expectSame(1, random, 3);
  });

  test("give their slots back when they are disposed of, in whatever order", async () => {
    const orders = fc.record({
      order: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
      budgetAfter: fc.integer({ min: 0, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(orders, async ({ order, budgetAfter }) => {
        using all = new BudgetLayers(device(), example, 3, { slots: 3 });
        const random = new Random(6);
        for (let index = 0; index < 3; index++) all.expectSame(index, random, 6);
        for (const [step, index] of order.entries()) {
          if (step === budgetAfter) all.budget.dispose();
          all.layer(index).dispose();
          for (const left of order.slice(step + 1)) all.expectSame(left, random, 6);
          if (step >= budgetAfter) continue;
          const { layers, slots, expertBytes } = await all.budget.stats();
          expect(layers).toBe(2 - step);
          expect(slots).toBe(step === 2 ? 0 : 3);
          expect(all.budget.byteLength).toBe(slots * expertBytes);
        }
      }),
      { numRuns: 12 },
    );
  });

  test("hold the bytes of the budget once", async () => {
    using whole = new RandomLayer(device(), example);
    using own = MoeLayer.create({ ...whole.options, offload: { slots: 1 } });
    await device().synchronize();
    const { expertBytes = 0 } = (await own.offload?.stats()) ?? {};
    using budget = new OffloadBudget(device(), { bytes: 5 * expertBytes + expertBytes / 2 });
    expect(budget.byteLength).toBe(0);
    using first = MoeLayer.create({ ...whole.options, offload: { budget } });
    using second = MoeLayer.create({ ...whole.options, offload: { budget } });
    await device().synchronize();
    expect(budget.byteLength).toBe(5 * expertBytes);
    expect(await budget.stats()).toMatchObject({ slots: 5, expertBytes, layers: 2, residentBytes: 0 });
    for (const layer of [first, second]) {
      expect(layer.byteLength).toBe(own.byteLength - expertBytes);
      expect(layer.offload?.slots).toBe(5);
    }
  });

  test("are captured only while all experts of all layers have a slot", async () => {
    using all = new BudgetLayers(device(), example, 2, { slots: 2 * numExperts });
    const random = new Random(7);
    {
      using first = all.layer(0).capture(4);
      using second = all.layer(1).capture(4);
      for (let round = 0; round < 3; round++) {
        all.expectSameReplay(0, first, random);
        all.expectSameReplay(1, second, random);
        all.expectSame(round % 2, random, 5);
      }
      const left =
        /^offload\.budget: expected a layer whose experts have slots of their own .* got 6 experts where 0 slots/;
      expectError(() => all.create(0), "UNSUPPORTED_OPERATION", left);
      // The slots of one that leaves are another's, but never those of a capture.
      second.dispose();
      all.layer(1).dispose();
      all.layers[1] = all.create(1);
      all.expectSame(1, random, 20);
      all.expectSameReplay(0, first, random);
    }
    using third = all.create(0);
    const message =
      /^capture: .* got one with offload and 12 slots for 18 experts of 3 layers: give it a slot for every/;
    expectError(() => all.layer(0).capture(4), "UNSUPPORTED_OPERATION", message);
    all.expectSame(1, random, 20);
    third.dispose();
    using again = all.layer(1).capture(4);
    all.expectSameReplay(1, again, random);
    all.expectSame(0, random, 20);
    all.expectSameReplay(1, again, random);
  });

  test("are captured where one has been replaced by another that joined before it left", () => {
    using all = new BudgetLayers(device(), example, 2, { slots: 2 * numExperts });
    const random = new Random(9);
    for (let round = 0; round < 4; round++) {
      const index = round % 2;
      const next = all.create(index);
      all.layer(index).dispose();
      all.layers[index] = next;
      all.expectSame(0, random, 20);
      all.expectSame(1, random, 20);
      using captured = all.layer(index).capture(4);
      all.expectSameReplay(index, captured, random);
      all.expectSame(1 - index, random, 20);
    }
  });

  test("leave experts to the CPU, each by its own onMiss", async () => {
    using all = new BudgetLayers(device(), example, 3, { slots: 3 }, { onMiss: "cpu" });
    const random = new Random(8);
    for (let call = 0; call < 9; call++) {
      using x = device().tensor(random.normals(7 * hiddenSize), [7, hiddenSize], "f32");
      using y = all.layer(call % 3).forward(x);
      using expected = all.whole(call % 3).layer.forward(x);
      expect(relativeError(await y.data(), await expected.data())).toBeLessThanOrEqual(1e-5);
    }
    await all.expectSums();
    const { onCpu, misses, prefetched } = await all.budget.stats();
    expect(onCpu).toBe(misses);
    expect(prefetched).toBeGreaterThan(0);
    using loading = MoeLayer.create({ ...all.whole(0).options, offload: { budget: all.budget } });
    using y = loading.forward(all.whole(0).x);
    using expected = all.whole(0).layer.forward(all.whole(0).x);
    expect(y.rawSync()).toEqual(expected.rawSync());
    expect(await loading.offload?.stats()).toMatchObject({ onCpu: 0 });
  });

  test("have experts of one size", () => {
    using all = new BudgetLayers(device(), example, 2, { slots: 2 });
    using other = new RandomLayer(device(), { ...example, config: { ...exampleConfig, intermediateSize: 200 } });
    const message =
      /^offload\.budget: expected experts of \d+ \+ \d+ bytes as the budget's .*, got \d+ \+ \d+ bytes: give/;
    const create = () => MoeLayer.create({ ...other.options, offload: { budget: all.budget } });
    expectError(create, "INVALID_ARGUMENT", message);
    all.expectSame(0, new Random(9), 4);
    // A budget without layers takes any.
    for (const layer of all.layers) layer?.dispose();
    using layer = create();
    using y = layer.forward(other.x);
    using expected = other.layer.forward(other.x);
    expect(y.rawSync()).toEqual(expected.rawSync());
  });

  test("count nothing as resident after one of them failed", async () => {
    using all = new BudgetLayers(device(), example, 2, { slots: 6 });
    const random = new Random(10);
    all.expectSame(0, random, 9);
    const handle = device().backend.layer(all.whole(1).parts.description, undefined, {
      ...{ budget: all.budget.handle, slots: 0, bytes: 0, policy: "lru", pinned: [], rowsToLoad: 0 },
    });
    const { x } = all.whole(1);
    using y = device().empty(x.shape, x.dtype);
    using ids = device().tensor(Int32Array.of(99), [1, 1], "i32");
    using weights = device().tensor(Float32Array.of(1), [1, 1], "f32");
    using row = x.rows(0, 1);
    all.layer(1).forward(row, { routing: { ids, weights } }).dispose();
    await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /got 99$/);
    handle.forward(x.handle, y.handle, null, null, -1, ["router", "gating", "sort", "gateUp"]);
    await expectRejection(device().synchronize(), "UNSUPPORTED_OPERATION", /^stages: /);
    handle.free();
    for (let call = 0; call < 4; call++) all.expectSame(call % 2, random, 9);
  });

  test("refuse another device's budget, and one that was disposed of", async () => {
    using other = openDevice(name);
    using whole = new RandomLayer(device(), example);
    const budget = new OffloadBudget(other, { slots: 2 });
    const create = (given: unknown) => () =>
      MoeLayer.create({ ...whole.options, offload: { budget: given as OffloadBudget } });
    const message = new RegExp(
      `^offload\\.budget: expected a budget of the layer's device ${name}, got one of another device \\(${name}\\)$`,
    );
    expectError(create(budget), "DEVICE_MISMATCH", message);
    const { handle } = budget;
    const rule = { slots: 0, bytes: 0, policy: "lru", pinned: [], rowsToLoad: 0 } as const;
    const native = (given: unknown) => () =>
      device().backend.layer(whole.parts.description, undefined, { ...rule, budget: given as typeof handle });
    expectError(native(handle), "DEVICE_MISMATCH", /^offload\.budget: expected a budget of the layer's device$/);
    expectError(native({}), "INVALID_ARGUMENT", /^offload\.budget: expected a budget, got /);
    using own = new OffloadBudget(device(), { slots: 2 });
    own.dispose();
    own.dispose();
    expectError(create(own), "DISPOSED", /^offload budget: used after dispose\(\)$/);
    await expectRejection(own.stats(), "DISPOSED", /^offload budget: used after dispose\(\)$/);
    expect(inspect(own)).toBe(`OffloadBudget on ${name} (disposed)`);
    other.dispose();
    await expectRejection(budget.stats(), "DISPOSED", /used after dispose/);
    for (const wrong of [{}, null, "8 GiB", new Proxy(own, {})]) {
      expectError(create(wrong), "INVALID_ARGUMENT", /^offload\.budget: expected an OffloadBudget, got /);
    }
  });
});

describe("a budget", () => {
  test.each([
    [{}, /^options: expected either slots or bytes, got none$/],
    [{ slots: 2, bytes: 5 }, /^options: expected either slots or bytes, got slots and bytes$/],
    [{ slots: 0 }, /^slots: expected an integer >= 1, got 0$/],
    [{ bytes: 2 ** 60 }, /^bytes: expected an integer >= 1, got /],
    [{ slots: 2, policy: "fifo" }, /^policy: expected one of "lfru", "lru", "lfu", got "fifo"$/],
    [{ slots: 2, pinned: [1] }, /^options: there is no option "pinned"; expected slots, bytes, policy$/],
  ])("is not made from %j", (options, message) => {
    using device = openDevice("simt");
    expectError(() => new OffloadBudget(device, options as OffloadBudgetOptions), "INVALID_ARGUMENT", message);
  });

  test.each([
    ["slots", { slots: 2 }],
    ["bytes", { bytes: 2 ** 20 }],
    ["policy", { policy: "lru" }],
  ] as const)("cannot be combined with %s of a layer's own", (name, own) => {
    using device = openDevice("simt");
    using whole = new RandomLayer(device, example);
    using budget = new OffloadBudget(device, { slots: 2 });
    const offload: OffloadOptions = { budget, ...own };
    const message = new RegExp(`^offload\\.${name} cannot be combined with offload\\.budget$`);
    expectError(() => MoeLayer.create({ ...whole.options, offload }), "INVALID_ARGUMENT", message);
  });

  test("is an object of its own, of a device with offload", () => {
    using device = openDevice("simt");
    expectError(() => new OffloadBudget({} as never, { slots: 2 }), "INVALID_ARGUMENT", /^device: expected a Device/);
    class Larger extends OffloadBudget {}
    expectError(() => new Larger(device, { slots: 2 }), "INVALID_ARGUMENT", /^OffloadBudget cannot be subclassed/);
    using budget = new OffloadBudget(device, { slots: 2 });
    for (const property of ["handle", "device"]) {
      expect(() => Object.defineProperty(budget, property, { value: {} })).toThrow(TypeError);
    }
    using reference = openDevice("reference");
    const message = /^offload: expected the device cpu, cuda or simt, got reference/;
    expectError(() => new OffloadBudget(reference, { slots: 2 }), "UNSUPPORTED_OPERATION", message);
  });

  test("too large for memory is an error of the first layer", async () => {
    using device = openDevice("simt");
    using whole = new RandomLayer(device, example);
    for (const options of [{ slots: Number.MAX_SAFE_INTEGER }, { slots: 2 ** 31 - 1 }, { bytes: 2 ** 52 }]) {
      using budget = new OffloadBudget(device, options);
      const create = () => MoeLayer.create({ ...whole.options, offload: { budget } });
      expectError(create, "OUT_OF_MEMORY", /memory/);
      expectError(create, "OUT_OF_MEMORY", /memory/);
      expect(await budget.stats()).toMatchObject({ layers: 0, slots: 0, residentBytes: 0 });
    }
    using small = new OffloadBudget(device, { bytes: 100 });
    const create = () => MoeLayer.create({ ...whole.options, offload: { budget: small } });
    expectError(
      create,
      "INVALID_ARGUMENT",
      /^offload\.budget: expected at least \d+, the bytes of one expert, got 100$/,
    );
  });
});
