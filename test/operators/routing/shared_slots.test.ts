import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { sharedSlots } from "../../../lib/operators/routing/shared_slots.js";
import { sharedSlotsBackward } from "../../../lib/operators/routing/shared_slots_backward.js";
import { sharedSlotsBackwardCase, sharedSlotsCase } from "../../../lib/testing/cases/shared_slots.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { runCase } from "../../../lib/testing/run.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const reference = openDevice("reference", { poison: true });

interface Problem {
  tokens: number;
  topK: number;
  sharedExperts: number;
  gate: 0 | 1 | 2;
  seed: number;
}

const problems = fc.record({
  tokens: fc.integer({ min: 1, max: 4 }),
  topK: fc.integer({ min: 1, max: 4 }),
  sharedExperts: fc.integer({ min: 0, max: 3 }),
  gate: fc.constantFrom(0 as const, 1 as const, 2 as const),
  seed: fc.nat(),
});

/** The weights of slots in float64, their gradients, and the loss whose gradients these are. */
function slotsOf({ tokens, topK, sharedExperts, gate: outputs, seed }: Problem) {
  const random = new Random(seed);
  const ids = reference.tensor(Int32Array.from(random.sample(tokens * topK, 16)), [tokens, topK]);
  const slots = [tokens, topK + sharedExperts];
  const [weights, gate] = [normals(random, tokens * topK), normals(random, tokens * outputs)];
  const dSlots = normals(random, tokens * (topK + sharedExperts));
  const options = (values: Float64Array) =>
    outputs === 0 ? { sharedExperts } : { sharedExperts, gate: float64(reference, values, [tokens, outputs]) };
  const loss = (a: Float64Array, b: Float64Array) => {
    const slotWeights = float64(reference, a, [tokens, topK]);
    return dot(valuesOf(sharedSlots(ids, slotWeights, { numExperts: 16, ...options(b) }).weights), dSlots);
  };
  const gradients = () =>
    sharedSlotsBackward(float64(reference, weights, [tokens, topK]), float64(reference, dSlots, slots), options(gate));
  return { weights, gate, loss, gradients };
}

describe("sharedSlotsBackward in float64", () => {
  test("is the derivative of the slots' weights", () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { weights, gate, loss, gradients } = slotsOf(problem);
        const { dWeights, dGate } = gradients();
        expect(gradientError(valuesOf(dWeights), weights, (values) => loss(values, gate))).toBeLessThanOrEqual(1e-8);
        expect(dGate === undefined).toBe(problem.gate === 0);
        if (dGate === undefined) return;
        expect(gradientError(valuesOf(dGate), gate, (values) => loss(weights, values))).toBeLessThanOrEqual(1e-8);
      }),
      { numRuns: 300 },
    );
  });

  test("a term left out would show", () => {
    for (const gate of [1, 2] as const) {
      const {
        weights,
        gate: values,
        loss,
        gradients,
      } = slotsOf({ tokens: 3, topK: 2, sharedExperts: 2, gate, seed: 2 });
      const exact = centralDifferences(values, (moved) => loss(weights, moved));
      const dGate = valuesOf(gradients().dGate ?? reference.zeros([1], "f32"));
      expect(relativeError(dGate, exact)).toBeLessThanOrEqual(1e-8);
      // The sums without the derivative of the sigmoid or the softmax.
      expect(
        relativeError(
          dGate.map((value) => value * 4),
          exact,
        ),
      ).toBeGreaterThan(0.1);
      expect(relativeError(dGate.fill(0, 0, 1), exact)).toBeGreaterThan(0.01);
    }
  });
});

describe.each(kernelPaths)("slots with shared experts on $label", (path) => {
  const device = openForTests(path);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");
  const integers = (rows: number[][]) =>
    device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length as number]);

  test("any sizes are as on reference", async () => {
    const sizes = fc.integer({ min: 1, max: 40 }).chain((experts) =>
      fc.record({
        tokens: fc.integer({ min: 0, max: 300 }),
        topK: fc.integer({ min: 1, max: Math.min(experts, 9) }),
        experts: fc.constant(experts),
        sharedExperts: fc.integer({ min: 0, max: 4 }),
        bank: fc
          .tuple(fc.nat({ max: experts - 1 }), fc.nat())
          .map(([first, rest]) => ({ first, count: 1 + (rest % (experts - first)) })),
        spread: fc.constantFrom("even" as const, "some_dropped" as const, "all_dropped" as const),
      }),
    );
    const gates = fc.constantFrom({}, { gate: 1 as const }, { gate: 2 as const });
    await fc.assert(
      fc.asyncProperty(sizes, gates, async (problem, gate) => {
        for (const make of [sharedSlotsCase, sharedSlotsBackwardCase]) {
          expect(await runCase(make({ ...problem, ...gate }), device())).toMatchObject({ passed: true });
        }
      }),
      { numRuns: 40 },
    );
  });

  test("choices of others become -1, those of the bank count from its first, shared experts follow", () => {
    const bank = { first: 2, count: 3 };
    const weights = device().tensor([[1, 2, 3]]);
    const slots = sharedSlots(integers([[1, 4, -1]]), weights, { numExperts: 8, sharedExperts: 2, bank });
    expect(slots.ids.toArraySync()).toEqual([[-1, 2, -1, 3, 4]]);
    expect(slots.weights.toArraySync()).toEqual([[1, 2, 3, 1, 1]]);
  });

  test("NaN, infinite and huge gates", () => {
    const given = (gate: number[][], weights: number[][], gradient: number[][]) => {
      const tensors = { gate: device().tensor(gate), weights: device().tensor(weights) };
      const ids = integers(weights.map(() => [0]));
      const slots = sharedSlots(ids, tensors.weights, { numExperts: 2, sharedExperts: 1, gate: tensors.gate });
      const { dWeights, dGate } = sharedSlotsBackward(tensors.weights, device().tensor(gradient), {
        sharedExperts: 1,
        gate: tensors.gate,
      });
      return [slots.weights, dWeights, dGate].map((tensor) => tensor.toArraySync() as number[][]);
    };
    const ones = (rows: number, columns: number) =>
      Array.from({ length: rows }, () => new Array<number>(columns).fill(1));
    const gates = [
      [nan, 0],
      [nan, nan],
      [infinity, 0],
      [1e30, -1e30],
      [0, 0],
      [0, 0],
    ];
    const weights = ones(6, 1).with(5, [nan]);
    const [slots, dWeights, dGate] = given(gates, weights, ones(6, 2)) as [number[][], number[][], number[][]];
    expect(slots).toEqual([
      [0, 1],
      [0, 0],
      [1, 0],
      [1, 0],
      [0.5, 0.5],
      [nan, 0.5],
    ]);
    expect(dWeights).toEqual([[0], [0], [1], [1], [0.5], [0.5]]);
    expect(dGate.map((row) => row.map((value) => value + 0))).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
      [nan, nan],
    ]);
    const [sigmoids, , slopes] = given([[1e30], [-1e30], [nan], [0]], ones(4, 1), ones(4, 2)) as [
      number[][],
      number[][],
      number[][],
    ];
    expect(sigmoids).toEqual([
      [1, 1],
      [1, 0],
      [1, nan],
      [1, 0.5],
    ]);
    expect(slopes).toEqual([[0], [0], [nan], [0.25]]);
  });

  test("an id out of range is reported, and becomes -1", async () => {
    const slots = sharedSlots(integers([[0], [8]]), floats(2, 1), { numExperts: 8, sharedExperts: 1 });
    const message = /^sharedSlots: ids\[1(, 0)?\]: expected -1 or an expert from 0 to 7, got 8$/;
    await expectRejection(slots.ids.data(), "ID_OUT_OF_RANGE", message);
    expect(await slots.ids.toArray()).toEqual([
      [0, 8],
      [-1, 8],
    ]);
  });

  test("bad arguments", () => {
    const call = (options: object) => () =>
      sharedSlots(integers([[0], [1]]), floats(2, 1), { numExperts: 4, sharedExperts: 1, ...options });
    expectError(call({ bank: { first: 3, count: 2 } }), "INVALID_ARGUMENT", /^bank: expected experts within 0 to 3/);
    expectError(call({ gate: floats(2, 3) }), "INVALID_ARGUMENT", /^gate: expected 1 column for a sigmoid or 2/);
    expectError(call({ gate: floats(1, 1) }), "SHAPE_MISMATCH", /^gate: expected shape \[2, G\]/);
    expectError(call({ sharedExperts: -1 }), "INVALID_ARGUMENT", /^sharedExperts: /);
    expectError(call({ sharedExperts: 2 ** 31 - 3 }), "INVALID_ARGUMENT", /^sharedExperts: expected fewer than/);
    const out = { ids: integers([[0], [1]]), weights: floats(2, 2) };
    expectError(call({ out }), "SHAPE_MISMATCH", /^out\.ids: expected shape \[2, 2\], got \[2, 1\]/);
    const backward = (options: object) => () =>
      sharedSlotsBackward(floats(2, 1), floats(2, 2), { sharedExperts: 1, ...options });
    expectError(backward({ sharedExperts: 2 }), "SHAPE_MISMATCH", /^dSlotWeights: expected shape \[2, 3\]/);
    const without = backward({ out: { dWeights: floats(2, 1), dGate: floats(2, 1) } });
    expectError(without, "INVALID_ARGUMENT", /^out\.dGate requires gate/);
  });
});

describe.each(deviceNames.filter((name) => name === "cpu"))("on %s", (name) => {
  const one = openForTests(name, { threads: 1 });
  const many = openForTests(name, { threads: 7 });

  test("the number of threads does not change a bit", () => {
    const random = new Random(6);
    const [weights, gate, given] = [random.normals(4000), random.normals(4000), random.normals(2000 * 5)];
    const bits = [one(), many()].map((device) => {
      const options = { sharedExperts: 3, gate: device.tensor(gate, [2000, 2]) };
      const tensor = device.tensor(weights, [2000, 2]);
      const { dWeights, dGate } = sharedSlotsBackward(tensor, device.tensor(given, [2000, 5]), options);
      const slots = sharedSlots(device.zeros([2000, 2], "i32"), tensor, { numExperts: 2, ...options });
      return [slots.weights.dataSync(), dWeights.dataSync(), dGate.dataSync()];
    });
    expect(bits[0]).toEqual(bits[1]);
  });
});
