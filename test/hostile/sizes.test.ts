import { constants } from "node:buffer";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import * as api from "../../lib/index.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

// Sizes that no memory stands behind: those of empty tensors can be anything. No loop may run over them.

const many = 2 ** 44;

describe.each(deviceNames)("%s", (name) => {
  // Not poisoned, so that memory of which nothing is used costs nothing.
  const device = openForTests(name, { poison: false });
  const integers = (...shape: number[]) => device().zeros(shape, "i32");
  const floats = (...shape: number[]) => device().empty(shape, "f32");

  test("shapes whose sizes multiply to 2^53 and more are refused, empty ones too", () => {
    for (const shape of [
      [2 ** 30, 2 ** 30],
      [2 ** 30, 2 ** 30, 0],
    ]) {
      expectError(() => floats(...shape), "INVALID_ARGUMENT", /^shape: expected fewer than 2\^53 elements/);
    }
    expectError(() => device().empty(new Array(3e7), "f32"), "INVALID_ARGUMENT", /got array of length 30000000$/);
  });

  test("views whose sizes overflow are refused by the memory itself", () => {
    if (device().kind === "reference") return; // its memory is a typed array
    using tensor = floats(4);
    const { handle } = tensor;
    for (const [shape, offset] of [
      [[1099511630157, 6950278064134021], 0],
      [[2 ** 32, 2 ** 32], 0],
      [[2 ** 53, 2 ** 53, 2 ** 53, 2 ** 53], 0],
      [[4], 1],
      [[1], 2 ** 53],
      [[1], -1],
    ] as const) {
      expect(() => handle.view(shape, offset)).toThrow();
    }
    handle.view([2, 1], 2).free();
    handle.view([many, 0], 4).free();
  });

  test("empty tensors are shown, and nested if they can be", async () => {
    expect(inspect(floats(many, 0))).toMatch(/^Tensor<f32> \[17592186044416, 0\] on [\w:]+$/);
    await expectRejection(floats(many, 0).toArray(), "INVALID_ARGUMENT", /^toArray: expected at most 67108864 values/);
    expectError(() => floats(2 ** 25, 1).toArraySync(), "INVALID_ARGUMENT", /^toArraySync: .* 16777216 arrays/);
    expect(await floats(3, 0).toArray()).toEqual([[], [], []]);
    expect(await floats(0, many).toArray()).toEqual([]);
  });

  test("more elements than a typed array can have are refused before memory is needed for them", async () => {
    const length = constants.MAX_LENGTH + 1;
    if (device().kind === "reference" || length > 2 ** 33) return; // the memory of `reference` is a typed array
    using large = device().empty([length], "u8");
    const message = /expected at most \d+ elements, .* read rows\(begin, end\)$/;
    await expectRejection(large.data(), "INVALID_ARGUMENT", message);
    await expectRejection(large.raw(), "INVALID_ARGUMENT", message);
    expectError(() => large.dataSync(), "INVALID_ARGUMENT", message);
    expect(await large.rows(length - 2, length).data()).toHaveLength(2);
  });

  test("operators do not count what no memory stands behind", async () => {
    const empty = integers(many, 0);
    expect(api.columnMeans(floats(many, 0)).shape).toEqual([1, 0]);
    expect(api.columnMeans(floats(many, 0), { sequences: many }).shape).toEqual([many, 0]);
    expect(api.combine(floats(3, 0), empty, floats(many, 0)).shape).toEqual([many, 0]);
    expect(api.combine(floats(3, 0), empty, floats(many, 0), { residual: floats(many, 0) }).shape).toEqual([many, 0]);
    expect(api.rmsNorm(floats(many, 0), floats(0)).shape).toEqual([many, 0]);
    expect(api.rmsNormBackward(floats(many, 0), floats(0), floats(many, 0)).dWeight.shape).toEqual([0]);
    expect(api.permute(floats(many, 0), integers(0)).shape).toEqual([0, 0]);
    expect(api.unpermute(floats(3, 5), empty).shape).toEqual([many, 0, 5]);
    expect(api.jitter(floats(many, 0), { epsilon: 0.1, seed: 1 }).shape).toEqual([many, 0]);
    expect(api.routerProjection(floats(2 ** 30, 0), floats(0, 0)).shape).toEqual([2 ** 30, 0]);
    expect(api.routerProjection(floats(0, 3), floats(4, 3)).shape).toEqual([0, 4]);
    const { ids } = api.limitCapacity({ ids: empty, weights: floats(many, 0) }, { numExperts: 2, factor: 1 });
    expect(ids.shape).toEqual([many, 0]);
    const renormalized = { numExperts: 2, tokens: 1, renormalize: true };
    api.limitCapacity({ ids: empty, weights: floats(many, 0) }, renormalized);
    const totals = api.expertTotals(empty, { numExperts: 2, weights: floats(many, 0), sequences: 2 });
    expect(await totals.tokens.toArray()).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(await totals.weights.data()).toEqual(new Float32Array(4));
    expect(await totals.dropped.toArray()).toEqual([0, 0]);
    expect(api.expertTotalsBackward(empty, floats(2, 2)).shape).toEqual([many, 0]);
    expect(api.columnMeansBackward(floats(many, 0), floats(1, 0)).shape).toEqual([many, 0]);
    const choices = { ids: empty, weights: floats(many, 0) };
    expect(api.lookUpExperts(integers(many, 0), integers(2)).shape).toEqual([2, 0]);
    expect(api.limitCapacityBackward(choices, choices, floats(many, 0)).shape).toEqual([many, 0]);
    const projected = api.routerProjectionBackward(floats(2 ** 30, 0), floats(0, 0), floats(2 ** 30, 0));
    expect(projected.dx.shape).toEqual([2 ** 30, 0]);
    expect(api.zLossBackward(floats(many, 0)).shape).toEqual([many, 0]);
    const combined = api.combineBackward(floats(3, 5), integers(0, 2), floats(0, 2), floats(0, 5));
    expect(await combined.dRows.data()).toEqual(new Float32Array(15));
    const narrow = api.combineBackward(floats(many, 0), integers(2, 1), floats(2, 1), floats(2, 0));
    expect(await narrow.dWeights.data()).toEqual(new Float32Array(2));
    const wide = api.combineBackward(floats(3, 0), empty, floats(many, 0), floats(many, 0));
    expect(wide.dWeights.shape).toEqual([many, 0]);
    expect(api.permuteBackward(floats(3, 0), empty).shape).toEqual([many, 0]);
    const shared = api.sharedSlots(empty, floats(many, 0), { numExperts: 2, sharedExperts: 0 });
    expect(shared.weights.shape).toEqual([many, 0]);
    const { dWeights } = api.sharedSlotsBackward(floats(many, 0), floats(many, 0), { sharedExperts: 0 });
    expect(dWeights.shape).toEqual([many, 0]);
    expect(api.activate(floats(many, 0), { activation: "swiglu" }).shape).toEqual([many, 0]);
    const activated = api.activationBackward(floats(many, 0), floats(many, 0), { activation: "silu", inner: true });
    expect(activated.inner.shape).toEqual([many, 0]);
    const slots = api.expertSlots(empty, { numExperts: 2, capacity: 3 });
    expect(await slots.data()).toEqual(new Int32Array(6).fill(-1));
    const sorted = api.sort(empty, { numExperts: 2 });
    expect(await sorted.offsets.data()).toEqual(new Int32Array(3));
    expect(sorted.rowOfSlot.shape).toEqual([many, 0]);
    expect(await api.cvSquared(floats(many, 0)).data()).toEqual(Float32Array.of(0));
    const bias = api.updateSelectionBias(floats(0), integers(many, 0));
    expect(bias.shape).toEqual([0]);
    await device().synchronize();
  });

  test("what would need more memory than there is says so", () => {
    const { ids, weights } = { ids: integers(2 ** 12, 1), weights: floats(2 ** 12, 1) };
    const options = { numExperts: 2 ** 31 - 2, tokens: 1, per: "sequence", sequenceLength: 1 } as const;
    if (device().kind !== "reference") {
      expectError(() => api.limitCapacity({ ids, weights }, options), "OUT_OF_MEMORY", /^limitCapacity: /);
    }
    expectError(
      () => api.packExperts(floats(many, 0, 0)),
      "INVALID_ARGUMENT",
      /^weight: expected fewer than 2\^31 - 1 experts/,
    );
  });

  test("more experts than ids can name are refused, also where no memory stands behind them", () => {
    for (const experts of [2 ** 31 - 1, 2 ** 32 + 1]) {
      const logits = floats(0, experts);
      const message = new RegExp(`^(logits|clean): expected fewer than 2\\^31 - 1 experts, got ${experts}$`);
      const routing = { ids: integers(0, 1), weights: floats(0, 1) };
      const refused = (call: () => unknown) => expectError(call, "INVALID_ARGUMENT", message);
      refused(() => api.gating(logits, { topK: 1 }));
      refused(() => api.gatingWeights(logits, routing, { topK: 1 }));
      refused(() => api.gatingBackward(logits, routing, routing.weights, { topK: 1 }));
      refused(() => api.hierarchicalGating(floats(0, 1), logits, { groups: { topK: 1 }, experts: { topK: 1 } }));
      refused(() => api.expertLoad(logits, logits, logits, { topK: 1 }));
    }
  });

  test("rows and pairs that 32 bits cannot number are refused", () => {
    const most = 2 ** 31;
    const refused = (parameter: string, call: () => unknown) =>
      expectError(
        call,
        "INVALID_ARGUMENT",
        new RegExp(`^${parameter}: expected fewer than 2\\^31 .*, got ${most}( tokens)?$`),
      );
    const [x, none, offsets] = [floats(most, 0), integers(most, 0), integers(2)];
    refused("x", () => api.linear(x, floats(4, 0)));
    refused("x", () => api.routerProjection(x, floats(0, 0)));
    refused("x", () => api.routerProjectionBackward(x, floats(0, 0), x));
    refused("weight", () => api.routerProjectionBackward(floats(0, 0), x, floats(0, most)));
    refused("rowOfSlot", () => api.combine(floats(1, 0), integers(0, most), floats(0, most)));
    refused("table", () => api.lookUpExperts(integers(0, most), integers(0)));
    refused("x", () => api.groupedGemmWeightBackward(x, x, offsets));
    refused("ids", () => api.sharedSlots(none, x, { numExperts: 2, sharedExperts: 1 }));
    if (device().kind === "reference") return; // what follows needs an address, which nothing is read from
    const at = <D extends "i32" | "f32">(dtype: D, ...shape: number[]) => device().wrapPointer(4096n, shape, dtype);
    const [ids, weights] = [at("i32", most, 1), at("f32", most, 1)];
    refused("tokenOfRow", () => {
      api.groupedGemmWeightBackward(floats(1, 0), x, offsets, { tokenOfRow: at("i32", most) });
    });
    refused("rowOfSlot", () => api.combineBackward(floats(1, 0), ids, weights, x));
    refused("ids", () => api.sort(ids, { numExperts: 2 }));
    refused("ids", () => api.expertSlots(ids, { numExperts: 2, capacity: 1 }));
    refused("routing\\.ids", () => api.limitCapacity({ ids, weights }, { numExperts: 2, tokens: 1 }));
    refused("ids", () => api.expertTotals(ids, { numExperts: 2 }));
    refused("logits", () => api.expertChoice(weights, { tokens: 1 }));
    const one = { topK: 1 };
    refused("groupLogits", () => api.hierarchicalGating(weights, weights, { groups: one, experts: one }));
  });

  test("a router without experts scores nothing", async () => {
    const { scores, logSumExp, entropy } = api.routerScores(floats(3, 0));
    expect(scores.shape).toEqual([3, 0]);
    expect(await logSumExp.data()).toEqual(new Float32Array(3).fill(-Infinity));
    expect(await entropy.data()).toEqual(new Float32Array(3));
    const sigmoid = api.routerScores(floats(3, 0), { scoring: "sigmoid", normalize: true });
    expect(await sigmoid.entropy.data()).toEqual(new Float32Array(3));
  });

  test.each(["f32", "f16", "bf16"] as const)("weights of %s without rows or columns", async (dtype) => {
    const offsets = device().tensor(Int32Array.of(0, 2, 3));
    const bias = device().tensor(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [2, 4], dtype);
    const x = device().empty([3, 0], dtype);
    const weight = device().empty([2, 4, 0], dtype);
    const plain = api.groupedGemm(x, weight, offsets, { bias, activation: "relu" });
    expect(await plain.toArray()).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ]);
    const gated = api.groupedGemm(x, api.packExperts(weight, { activation: "swiglu_clamped" }), offsets, {
      bias,
      tokenOfRow: device().tensor(Int32Array.of(0, -1, 2)),
    });
    const [first, second, third] = (await gated.toArray()) as number[][];
    expect(first?.[0]).toBeCloseTo((1 / (1 + Math.exp(-1.702))) * 4, 1);
    expect(second).toEqual([0, 0]);
    expect(third?.every((value) => value > 20)).toBe(true);
    expect(await api.groupedGemm(x, weight, offsets).data()).toEqual(new Float32Array(12));
    const none = api.groupedGemm(device().empty([3, 5], dtype), device().empty([2, 0, 5], dtype), offsets);
    expect(none.shape).toEqual([3, 0]);
    expect(await none.data()).toHaveLength(0);
    const logits = api.routerProjection(x, device().empty([4, 0], dtype), { bias: bias.rows(0, 1).reshape([4]) });
    expect(await logits.toArray()).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
    await device().synchronize();
  });
});
