import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { type Drop, drops } from "../../../lib/core/layer/routing_rule.js";
import { openDevice } from "../../../lib/devices.js";
import { type CapacitySize, expertCapacity, type Renormalize } from "../../../lib/operators/routing/capacity.js";
import { expertSlots } from "../../../lib/operators/routing/expert_slots.js";
import { type LimitCapacityOptions, limitCapacity } from "../../../lib/operators/routing/limit_capacity.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomRouting } from "../../../lib/testing/inputs/random_routing.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const { NaN: nan } = Number;

describe("expertCapacity", () => {
  const capacity = (size: CapacitySize, tokens = 13, topK = 2, experts = 5) =>
    expertCapacity(size, tokens, topK, experts);

  test("is a number of tokens, or a share of them that is rounded", () => {
    expect(capacity({ tokens: 7 })).toBe(7);
    expect(capacity({ factor: 1 })).toBe(6); // 5.2 rounded up
    expect(capacity({ factor: 1, round: "down" })).toBe(5);
    expect(capacity({ factor: 0 })).toBe(0);
    expect(capacity({ factor: 1.25 }, 0)).toBe(0);
  });

  test("is at least the minimum, then a multiple", () => {
    expect(capacity({ factor: 1, minimum: 4 })).toBe(6);
    expect(capacity({ factor: 0.1, minimum: 4 })).toBe(4);
    expect(capacity({ factor: 1, multipleOf: 8 })).toBe(8);
    expect(capacity({ factor: 1, minimum: 9, multipleOf: 8 })).toBe(16);
  });

  test("does not round up for the rounding error of the factor", () => {
    expect(1.1 * 50).toBeGreaterThan(55);
    expect(expertCapacity({ factor: 1.1 }, 50, 1, 1)).toBe(55);
    expect(expertCapacity({ factor: 0.7 }, 10, 1, 1)).toBe(7);
    for (let tokens = 1; tokens < 200; tokens++) {
      for (let wanted = 0; wanted < 20; wanted++) {
        const factor = (wanted * 7) / tokens;
        expect(expertCapacity({ factor }, tokens, 1, 7)).toBe(wanted);
        expect(expertCapacity({ factor, round: "down" }, tokens, 1, 7)).toBe(wanted);
      }
    }
  });

  test("refuses sizes that make no sense", () => {
    const bad = (size: object, message: RegExp) => expectError(() => capacity(size), "INVALID_ARGUMENT", message);
    bad({}, /factor: expected a finite number >= 0, or tokens instead, got undefined/);
    bad({ factor: -1 }, /factor: .*got -1/);
    bad({ factor: nan }, /factor: .*got NaN/);
    bad({ factor: "1" }, /factor: .*got "1"/);
    bad({ factor: 1, round: "nearest" }, /round: expected one of "up", "down", got "nearest"/);
    bad({ factor: 1, minimum: -1 }, /minimum: expected an integer >= 0, got -1/);
    bad({ factor: 1, multipleOf: 0 }, /multipleOf: expected an integer >= 1, got 0/);
    bad({ tokens: 1.5 }, /tokens: expected an integer >= 0, got 1\.5/);
    bad({ tokens: 1, factor: 1 }, /factor cannot be combined with capacity\.tokens/);
    bad({ tokens: 1, minimum: 1 }, /minimum cannot be combined with capacity\.tokens/);
    expectError(() => capacity({ factor: 1 }, -1), "INVALID_ARGUMENT", /numTokens/);
    expectError(() => capacity({ factor: 1 }, 1, 1, 0), "INVALID_ARGUMENT", /numExperts/);
  });
});

interface Problem {
  readonly sequenceLength: number;
  readonly sequences: number;
  readonly topK: number;
  readonly numExperts: number;
  readonly capacity: number;
  readonly drop: Drop;
  readonly renormalize: boolean | Renormalize;
  readonly seed: number;
}

const anyRenormalize: fc.Arbitrary<boolean | Renormalize> = fc.oneof(
  fc.boolean(),
  fc.record({ by: fc.constantFrom("kept" as const, "chosen" as const), scale: fc.constantFrom(1, 0.8, -2) }),
);

/** Random problems with many ties and some NaN among the weights, and ids of -1. */
const anyProblem: fc.Arbitrary<Problem> = fc.integer({ min: 1, max: 9 }).chain((numExperts) =>
  fc.record({
    sequenceLength: fc.integer({ min: 1, max: 40 }),
    sequences: fc.integer({ min: 1, max: 4 }),
    topK: fc.integer({ min: 1, max: numExperts }),
    numExperts: fc.constant(numExperts),
    capacity: fc.integer({ min: 0, max: 30 }),
    drop: fc.constantFrom(...drops),
    renormalize: anyRenormalize,
    seed: fc.integer({ min: 0 }),
  }),
);

/** A random problem's routing, and what remains of it on a device. */
function solve(device: Device, problem: Problem) {
  const { sequenceLength, sequences, topK, numExperts, capacity, drop, renormalize, seed } = problem;
  const tokens = sequenceLength * sequences;
  const random = new Random(seed);
  const ids = randomRouting(random, tokens, topK, numExperts, "some_dropped").ids;
  const weights = Float32Array.from(ids, () => (random.uniform() < 0.05 ? nan : random.integer(0, 6) / 8));
  using idTensor = device.tensor(ids, [tokens, topK]);
  using weightTensor = device.tensor(weights, [tokens, topK]);
  const options = { numExperts, tokens: capacity, per: "sequence", sequenceLength, drop, renormalize } as const;
  const kept = limitCapacity({ ids: idTensor, weights: weightTensor }, options);
  const result = { ids: kept.ids.dataSync(), weights: kept.weights.dataSync() };
  kept.ids.dispose();
  kept.weights.dispose();
  return { given: { ids, weights }, kept: result };
}

describe.each(deviceNames)("limitCapacity on %s", (name) => {
  const device = openForTests(name);

  function keep(ids: number[][], weights: number[][], options: Omit<LimitCapacityOptions, "numExperts">) {
    using idTensor = device().tensor(Int32Array.from(ids.flat()), [ids.length, ids[0]?.length ?? 1]);
    using weightTensor = device().tensor(weights);
    const kept = limitCapacity({ ids: idTensor, weights: weightTensor }, { numExperts: 3, ...options });
    return { ids: kept.ids.toArraySync(), weights: kept.weights.toArraySync() };
  }

  test("position: first choices, in token order, go before second choices", () => {
    const ids = [
      [0, 1],
      [2, 0],
      [0, 2],
    ];
    const weights = [
      [0.5, 0.25],
      [0.5, 0.75],
      [0.125, 1],
    ];
    expect(keep(ids, weights, { tokens: 2 })).toEqual({
      ids: [
        [0, 1],
        [2, -1],
        [0, 2],
      ],
      weights: [
        [0.5, 0.25],
        [0.5, 0],
        [0.125, 1],
      ],
    });
    expect(keep(ids, weights, { tokens: 1 }).ids).toEqual([
      [0, 1],
      [2, -1],
      [-1, -1],
    ]);
  });

  test("prioritized: tokens of large weights go first; their second choices do not go before first choices", () => {
    const ids = [
      [0, 1],
      [0, 1],
      [0, 1],
      [1, 0],
    ];
    const weights = [
      [0.5, 0.1],
      [0.6, 0.1],
      [0.2, 0.6],
      [0.3, 0.9],
    ];
    expect(keep(ids, weights, { tokens: 2, drop: "prioritized" }).ids).toEqual([
      [-1, -1],
      [0, 1],
      [0, -1],
      [1, -1],
    ]);
  });

  test("probability: the largest weights go first, ties to the lower token, NaN last", () => {
    const ids = [[0], [0], [0], [0], [0]];
    const weights = [[nan], [0.25], [0.5], [0.25], [0]];
    const kept = (tokens: number) => keep(ids, weights, { tokens, drop: "probability" }).ids;
    expect(kept(1)).toEqual([[-1], [-1], [0], [-1], [-1]]);
    expect(kept(2)).toEqual([[-1], [0], [0], [-1], [-1]]);
    expect(kept(4)).toEqual([[-1], [0], [0], [0], [0]]);
  });

  test("renormalize divides by the sum of what is kept", () => {
    const ids = [
      [0, 1],
      [0, 2],
    ];
    const weights = [
      [0.25, 0.5],
      [0.75, 0.2],
    ];
    const kept = keep(ids, weights, { tokens: 1, renormalize: true });
    expect(kept.ids).toEqual([
      [0, 1],
      [-1, 2],
    ]);
    expect((kept.weights as number[][])[0]?.[0]).toBeCloseTo(1 / 3, 6);
    expect((kept.weights as number[][])[1]).toEqual([0, 1]);
  });

  test("renormalize by what the token chose, then times a scale", () => {
    const ids = [
      [0, 1],
      [0, 2],
      [-1, 2],
    ];
    const weights = [
      [0.25, 0.5],
      [0.75, 0.25],
      [0.5, 0.125],
    ];
    const kept = keep(ids, weights, { tokens: 1, renormalize: { by: "chosen", scale: 3 } });
    expect(kept).toEqual({
      ids: [
        [0, 1],
        [-1, 2],
        [-1, -1],
      ],
      weights: [
        [1, 2],
        [0, 0.75],
        [0, 0],
      ],
    });
    const alone = keep([[-1, 2]], [[0.5, 0.125]], { tokens: 1, renormalize: { by: "chosen" } });
    expect(alone.weights).toEqual([[0, 1]]);
  });

  test("what is dropped has weight 0, whatever the others are divided by", () => {
    const ids = device().tensor(Int32Array.of(0, 1, -1, 0, 1, 1), [2, 3]);
    const weights = device().tensor(Float32Array.of(nan, 0.5, 1, 0.25, nan, 0.5), [2, 3]);
    for (const by of ["kept", "chosen"] as const) {
      const kept = limitCapacity({ ids, weights }, { numExperts: 2, tokens: 1, renormalize: { by } });
      expect(kept.ids.toArraySync()).toEqual([
        [0, 1, -1],
        [-1, -1, -1],
      ]);
      expect(kept.weights.toArraySync()).toEqual([
        [nan, nan, 0],
        [0, 0, 0],
      ]);
    }
  });

  test("any routing: the same as reference, and never above capacity in any sequence", () => {
    using reference = openDevice("reference");
    fc.assert(
      fc.property(anyProblem, (problem) => {
        const { given, kept } = solve(device(), problem);
        const expected = solve(reference, problem).kept;
        expect(kept.ids).toEqual(expected.ids);
        const zeroForNan = (values: Float32Array) => values.map((value) => (Number.isNaN(value) ? 0 : value));
        expect(kept.weights.map(Number.isNaN as never)).toEqual(expected.weights.map(Number.isNaN as never));
        expect(relativeError(zeroForNan(kept.weights), zeroForNan(expected.weights))).toBeLessThanOrEqual(1e-6);

        const { topK, numExperts, sequenceLength, capacity } = problem;
        const count = (ids: Int32Array) => {
          const counts = new Int32Array(problem.sequences * numExperts);
          ids.forEach((id, slot) => {
            if (id >= 0) (counts[Math.floor(slot / topK / sequenceLength) * numExperts + id] as number)++;
          });
          return counts;
        };
        expect(count(kept.ids)).toEqual(count(given.ids).map((chosen) => Math.min(chosen, capacity)));
        kept.ids.forEach((id, slot) => {
          if (id >= 0) expect(id).toBe(given.ids[slot]);
        });
      }),
      { numRuns: 60 },
    );
  });

  test("a sequence's choices do not depend on other sequences", () => {
    fc.assert(
      fc.property(anyProblem, fc.integer({ min: 0, max: 3 }), (problem, which) => {
        const { given, kept } = solve(device(), problem);
        const { sequenceLength, topK, numExperts, capacity, drop, renormalize } = problem;
        const size = sequenceLength * topK;
        const begin = (which % problem.sequences) * size;
        using ids = device().tensor(given.ids.slice(begin, begin + size), [sequenceLength, topK]);
        using weights = device().tensor(given.weights.slice(begin, begin + size), [sequenceLength, topK]);
        const alone = limitCapacity({ ids, weights }, { numExperts, tokens: capacity, drop, renormalize });
        expect(alone.ids.dataSync()).toEqual(kept.ids.slice(begin, begin + size));
        expect(alone.weights.dataSync()).toEqual(kept.weights.slice(begin, begin + size));
      }),
      { numRuns: 30 },
    );
  });

  test("arguments that make no sense", () => {
    const routing = { ids: device().zeros([6, 2], "i32"), weights: device().zeros([6, 2], "f32") };
    const bad = (options: object, message: RegExp) =>
      expectError(() => limitCapacity(routing, { numExperts: 3, tokens: 2, ...options }), "INVALID_ARGUMENT", message);
    bad({ numExperts: 0 }, /numExperts: expected an integer from 1/);
    bad({ tokens: undefined }, /factor: expected a finite number/);
    bad({ drop: "random" }, /drop: expected one of "position", "prioritized", "probability", got "random"/);
    bad({ per: "token" }, /per: expected one of "batch", "sequence", got "token"/);
    bad({ renormalize: 1 }, /renormalize: expected a boolean or \{ by: "kept", scale: 1 \}, got 1/);
    bad({ renormalize: { by: "none" } }, /renormalize\.by: expected one of "kept", "chosen", got "none"/);
    bad({ renormalize: { scale: nan } }, /renormalize\.scale: expected a finite number, got NaN/);
    bad({ sequenceLength: 3 }, /sequenceLength cannot be combined with a capacity per batch/);
    bad({ per: "sequence", sequenceLength: 4 }, /sequenceLength: expected a divisor of 6 tokens, got 4/);
    bad({ per: "sequence", sequenceLength: 0 }, /sequenceLength: expected an integer >= 1, got 0/);
    bad({ out: routing }, /out\.ids: expected memory of its own/);
    expectError(() => limitCapacity(routing, undefined as never), "INVALID_ARGUMENT", /options: expected/);
    expectError(() => limitCapacity(null as never, { numExperts: 3, tokens: 2 }), "INVALID_ARGUMENT", /routing/);
    const weights = device().zeros([6, 3], "f32");
    const mismatch = () => limitCapacity({ ...routing, weights }, { numExperts: 3, tokens: 2 });
    expectError(mismatch, "SHAPE_MISMATCH", /routing\.weights: expected shape \[6, 2\], got \[6, 3\]/);
    const swapped = { ids: routing.weights as never, weights: routing.weights };
    const dtype = () => limitCapacity(swapped, { numExperts: 3, tokens: 2 });
    expectError(dtype, "UNSUPPORTED_DTYPE", /routing\.ids: expected dtype i32, got f32/);
  });

  test("an id out of range counts as -1 and is reported at the next wait", () => {
    using ids = device().tensor(Int32Array.of(0, 3, -2, 1), [2, 2]);
    using weights = device().zeros([2, 2], "f32");
    const kept = limitCapacity({ ids, weights }, { numExperts: 3, tokens: 2 });
    const late = /limitCapacity: ids\[0, 1\]: expected -1 or an expert from 0 to 2, got 3/;
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", late);
    expect([...kept.ids.dataSync()]).toEqual([0, -1, -1, 1]);
  });
});

describe.each(deviceNames)("expertSlots on %s", (name) => {
  const device = openForTests(name);

  test("every expert's slots in order, padded with -1", () => {
    using ids = device().tensor(Int32Array.of(2, 0, -1, 2, 0, 2), [3, 2]);
    const slots = (capacity: number) => expertSlots(ids, { numExperts: 4, capacity }).toArraySync();
    expect(slots(3)).toEqual([
      [1, 4, -1],
      [-1, -1, -1],
      [0, 3, 5],
      [-1, -1, -1],
    ]);
    expect(slots(2)).toEqual([
      [1, 4],
      [-1, -1],
      [0, 3],
      [-1, -1],
    ]);
  });

  test("arguments that make no sense", () => {
    const ids = device().zeros([3, 2], "i32");
    const bad = (options: object, message: RegExp) =>
      expectError(() => expertSlots(ids, { numExperts: 3, capacity: 2, ...options }), "INVALID_ARGUMENT", message);
    bad({ numExperts: 0 }, /numExperts: expected an integer from 1/);
    bad({ capacity: -1 }, /capacity: expected an integer from 0/);
    bad({ capacity: 2 ** 31 }, /capacity: expected an integer from 0/);
    bad({ out: ids.reshape([3, 2]) }, /out: expected memory of its own/);
    expectError(() => expertSlots(ids, undefined as never), "INVALID_ARGUMENT", /options: expected/);
    const flat = () => expertSlots(ids.reshape([6]), { numExperts: 3, capacity: 2 });
    expectError(flat, "SHAPE_MISMATCH", /ids: expected shape \[T, k\]/);
  });

  test("an id out of range gets no slot and is reported at the next wait", () => {
    using ids = device().tensor(Int32Array.of(0, 7), [1, 2]);
    const slots = expertSlots(ids, { numExperts: 2, capacity: 1 });
    const late = /expertSlots: ids\[0, 1\]: expected -1 or an expert from 0 to 1, got 7/;
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", late);
    expect(slots.toArraySync()).toEqual([[0], [-1]]);
  });
});
