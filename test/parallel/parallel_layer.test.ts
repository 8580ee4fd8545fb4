import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ExpertRange } from "../../lib/core/layer/expert_range.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { combine } from "../../lib/operators/experts/combine.js";
import { rmsNorm } from "../../lib/operators/experts/rms_norm.js";
import { serveBanks } from "../../lib/parallel/bank_server.js";
import { type ParallelForwardOptions, ParallelLayer } from "../../lib/parallel/parallel_layer.js";
import { connectBanks } from "../../lib/parallel/remote_banks.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { bankOptions, banksOf, optionsOf } from "../support/banks.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnLayer, drawnSizes, drawnTensor } from "../support/drawn_layer.js";
import { expectRejection } from "../support/errors.js";
import { anyLayer, RandomLayer } from "../support/random_layer.js";
import { SplitLayer } from "./support/split_layer.js";

/** The sum of the shares of all banks as one combine makes it, which is what a parallel layer must give. */
function sumOfShares<D extends FloatDType>(
  { banks }: SplitLayer,
  x: Tensor<D>,
  residual?: Tensor<FloatDType>,
): Tensor<FloatDType> {
  const { device } = x;
  const [count, hidden] = x.shape as [number, number];
  const routing = (banks[0] as MoeLayer).route(x);
  const rows = device.empty([banks.length * count, hidden], x.dtype);
  banks.forEach((bank, slot) => {
    bank.forward(x, { routing, out: rows.rows(slot * count, (slot + 1) * count) });
  });
  const slots = Array.from({ length: count }, (_, token) => banks.map((_, slot) => slot * count + token)).flat();
  const shape = [count, banks.length];
  const ones = device.tensor(new Float32Array(slots.length).fill(1), shape);
  return combine(rows, device.tensor(Int32Array.from(slots), shape), ones, { residual });
}

const base = { hiddenSize: 37, intermediateSize: 19, numExperts: 8, topK: 3 } as const;
const ranges: readonly ExpertRange[] = banksOf(8, [1, 4]);
const tolerance: Readonly<Record<FloatDType, number>> = { f32: 2e-6, f16: 4e-3, bf16: 3e-2, f64: 1e-12 };

describe.each(deviceNames)("a parallel layer on %s", (name) => {
  const device = openForTests(name);

  test("has the bits of the sum of its banks, and the numbers of the layer, whatever that has", async () => {
    const begins = fc.array(fc.integer({ min: 1, max: 11 }), { maxLength: 3 });
    const places = fc.record({ near: fc.nat(), maxTokens: fc.integer({ min: 1, max: 30 }) });
    await fc.assert(
      fc.asyncProperty(anyLayer, begins, places, fc.boolean(), async (problem, begins, { near, maxTokens }, added) => {
        using random = new RandomLayer(device(), problem);
        const { x, options, layer } = random;
        const banks = banksOf(problem.config.numExperts, begins);
        await using split = await SplitLayer.make(options, banks, { near: near % banks.length, maxTokens });
        using y = await split.layer.forward(x, { residual: added });
        using sum = sumOfShares(split, x, added ? x : undefined);
        expect(y.shape).toEqual(x.shape);
        expect(await y.raw()).toEqual(await sum.raw());
        using whole = layer.forward(x, { residual: added });
        // An error is relative to the largest output, and cancelling shares can be larger.
        const largest = await largestShare(split, x);
        const difference = maxDifference(await y.data(), await whole.data());
        expect(difference).toBeLessThanOrEqual(16 * tolerance[problem.dtype] * largest);
      }),
      { numRuns: name === "simt" ? 8 : 25 },
    );
  });

  test.each(["f32", "f16", "bf16"] as const)(
    "does not depend on the other tokens, nor on requests (%s)",
    async (dtype) => {
      const options = optionsOf(device(), base);
      const x = drawnTensor(device(), "x", [9, base.hiddenSize], dtype);
      await using split = await SplitLayer.make(options, ranges, { near: 1 });
      await using small = await SplitLayer.make(options, ranges, { near: 2, maxTokens: 2 });
      const all = await (await split.layer.forward(x)).raw();
      expect(await (await small.layer.forward(x)).raw()).toEqual(all);
      const each = Array.from({ length: 9 }, async (_, token) =>
        (await split.layer.forward(x.rows(token, token + 1))).raw(),
      );
      expect((await Promise.all(each)).flatMap((row) => [...row])).toEqual([...all]);
    },
  );

  const configs: Readonly<Record<string, Partial<MoeLayerConfig>>> = {
    capacity: { capacity: { factor: 0.5 } },
    "expert choice": { topK: 8, expertChoice: { factor: 2 } },
    hierarchy: { topK: 4, hierarchy: { numGroups: 4, topK: 2 } },
    "a shared expert": { sharedExpert: { intermediateSize: 40 } },
    "a shared expert, softmax gate": { sharedExpert: { intermediateSize: 40, gate: "softmax" } },
    "weights on the input": { weightOn: "input" },
  };
  test.each(Object.keys(configs))("with %s, for sequences too", async (what) => {
    const config = { ...base, ...configs[what] } as MoeLayerConfig;
    const options = optionsOf(device(), config);
    using whole = MoeLayer.create(options);
    await using split = await SplitLayer.make(options, ranges, { near: 1 });
    for (const shape of [
      [3, 7, base.hiddenSize],
      [21, base.hiddenSize],
      [0, base.hiddenSize],
      [1, base.hiddenSize],
    ]) {
      const x = drawnTensor(device(), "x", shape);
      const y = await split.layer.forward(x);
      expect(y.shape).toEqual(shape);
      expect(relativeError(await y.data(), await whole.forward(x).data())).toBeLessThanOrEqual(1e-4);
    }
  });

  test("with experts that return their input", async () => {
    const { experts, hidden } = drawnSizes;
    const config = { identityExperts: 2, topK: 4 };
    const layerOf = (bank: ExpertRange) => drawnLayer(device(), { ...config, bank });
    using whole = drawnLayer(device(), config);
    for (const near of [0, 1]) {
      const banks = [layerOf({ first: 0, count: 3 }), layerOf({ first: 3, count: 1 })];
      await using server = await serveBanks(banks[1 - near] as MoeLayer);
      using remote = await connectBanks(server.address);
      const layer = await ParallelLayer.create(banks[near] as MoeLayer, [remote.bank()]);
      const x = drawnTensor(device(), "x", [11, hidden]);
      const y = await layer.forward(x);
      expect(relativeError(await y.data(), await whole.forward(x).data())).toBeLessThanOrEqual(2e-6);
      // Only tokens with a choice there were sent.
      const ids = await whole.route(x).ids.data();
      const range = near === 0 ? [3] : [0, 1, 2, 4, 5];
      const chosen = Array.from({ length: 11 }, (_, t) => [...ids.subarray(4 * t, 4 * t + 4)]);
      expect(experts).toBe(6);
      expect(remote.traffic.tokens).toBe(chosen.filter((of) => of.some((id) => range.includes(id))).length);
    }
  });

  test("with a norm, a residual, a routing, chosen experts, logits and out, as a layer takes them", async () => {
    const options = optionsOf(device(), base);
    using whole = MoeLayer.create(options);
    await using split = await SplitLayer.make(options, ranges, { near: 2 });
    const x = drawnTensor(device(), "x", [5, base.hiddenSize]);
    const weight = drawnTensor(device(), "norm", [base.hiddenSize]);
    const expertIds = device().tensor(
      Int32Array.from({ length: 15 }, (_, i) => [0, 3, 7, -1, 2][i % 5] as number),
      [5, 3],
    );
    const logits = drawnTensor(device(), "logits", [5, base.numExperts]);
    const other = drawnTensor(device(), "other", x.shape);
    const cases: ParallelForwardOptions<"f32">[] = [
      { norm: { weight, epsilon: 1e-5 }, residual: true },
      { norm: { weight, offset: 1 }, residual: other },
      { routing: whole.route(x) },
      { routing: { ids: expertIds, weights: drawnTensor(device(), "weights", [5, 3]) } },
      { expertIds },
      { logits, residual: false },
      { out: device().empty(x.shape, "f32"), signal: new AbortController().signal },
    ];
    for (const given of cases) {
      const y = await split.layer.forward(x, given);
      const { signal, out, ...rest } = given;
      if (out !== undefined) expect(y).toBe(out);
      expect(relativeError(await y.data(), await whole.forward(x, rest).data())).toBeLessThanOrEqual(5e-6);
    }
    const normed = rmsNorm(x, weight);
    expect(await (await split.layer.forward(x, { norm: { weight } })).raw()).toEqual(
      await (await split.layer.forward(normed)).raw(),
    );
  });

  test("with token ids, and with what the router reads", async () => {
    const { hidden, experts, topK } = drawnSizes;
    const table = Int32Array.from({ length: 10 * topK }, (_, i) => (7 * i) % experts);
    const hash = { hashRouting: { vocabularySize: 10 }, expertTable: device().tensor(table, [10, topK]) };
    const read = { separateRouterInput: true };
    const x = drawnTensor(device(), "x", [4, hidden]);
    const others = { tokenIds: [3, 0, -1, 9] };
    const reads = { routerInput: drawnTensor(device(), "read", [4, hidden]) };
    for (const [config, given] of [
      [hash, others],
      [read, reads],
    ] as const) {
      using whole = drawnLayer(device(), config);
      using near = drawnLayer(device(), { ...config, bank: { first: 0, count: 2 } });
      using far = drawnLayer(device(), { ...config, bank: { first: 2, count: 4 } });
      await using server = await serveBanks(far);
      using remote = await connectBanks(server.address);
      const layer = await ParallelLayer.create(near, [remote.bank()]);
      const y = await layer.forward(x, given);
      expect(relativeError(await y.data(), await whole.forward(x, given).data())).toBeLessThanOrEqual(2e-6);
      await expectRejection(layer.forward(x), "INVALID_ARGUMENT", /^(tokenIds|routerInput): expected/);
    }
  });
});

async function largestShare({ banks }: SplitLayer, x: Tensor<FloatDType>): Promise<number> {
  const shares = await Promise.all(banks.map(async (bank) => await bank.forward(x).data()));
  return Math.max(0, ...shares.map((share) => maxDifference(share, new Float32Array(share.length))));
}

function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] as number) - (b[i] as number)));
  return largest;
}

describe("banks in other formats and on other devices", () => {
  const [cpu, reference, simt] = (["cpu", "reference", "simt"] as const).map((name) => openForTests(name)) as [
    () => ReturnType<ReturnType<typeof openForTests>>,
    () => ReturnType<ReturnType<typeof openForTests>>,
    () => ReturnType<ReturnType<typeof openForTests>>,
  ];

  test("add up too", async () => {
    const config = { ...base, hiddenSize: 64, intermediateSize: 64 };
    const [first, second, third] = ranges as [ExpertRange, ExpertRange, ExpertRange];
    using near = MoeLayer.create(bankOptions(optionsOf(cpu(), config), first));
    using far = MoeLayer.create(bankOptions(optionsOf(simt(), config), second));
    using quantised = MoeLayer.create({ ...bankOptions(optionsOf(reference(), config), third), dtype: "int4_g32" });
    await using server = await serveBanks(new Map([[3, far]]));
    await using other = await serveBanks(new Map([[3, quantised]]));
    using remote = await connectBanks(server.address);
    using otherRemote = await connectBanks(other.address);
    const layer = await ParallelLayer.create(near, [remote.bank(3), otherRemote.bank(3)]);
    using whole = MoeLayer.create(optionsOf(cpu(), config));
    const x = cpu().tensor(new Random(3).normals(6 * 64), [6, 64]);
    expect(relativeError(await (await layer.forward(x)).data(), await whole.forward(x).data())).toBeLessThan(0.1);
  });
});
