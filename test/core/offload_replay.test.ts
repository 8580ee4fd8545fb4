import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import { type OffloadRule, offloadPolicies } from "../../lib/core/device/backend.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { expectError } from "../support/errors.js";
import { LruSlots } from "../support/lru_slots.js";

const native = loadNative();

function replay(experts: number, calls: readonly (readonly number[])[], rule: Partial<OffloadRule>) {
  let end = 0;
  const ends = calls.map((ids) => (end += ids.length));
  const whole = { budget: null, slots: 1, bytes: 0, policy: "lfru", pinned: [], rowsToLoad: 0, ...rule } as const;
  return native.replayOffload(experts, whole, Int32Array.from(calls.flat()), Int32Array.from(ends));
}

/** Calls of k experts each, chosen by a Zipf law whose order of experts changes `shifts` times. */
function zipfCalls(experts: number, k: number, count: number, shifts: number): number[][] {
  const random = new Random(`${experts} ${k} ${shifts}`);
  return Array.from({ length: count }, (_, call) => {
    const shift = Math.floor((call * (shifts + 1)) / count) * 37;
    const used = new Set<number>();
    while (used.size < k) {
      const rank = Math.floor((experts + 1) ** random.uniform()) - 1;
      used.add((rank * 5 + shift) % experts);
    }
    return [...used];
  });
}

const rate = ({ hits, misses }: { hits: number; misses: number }) => hits / (hits + misses);

describe("a replay of routings", () => {
  test("counts what a simple LRU cache counts", () => {
    const anyCalls = fc.integer({ min: 1, max: 20 }).chain((experts) =>
      fc.record({
        experts: fc.constant(experts),
        slots: fc.integer({ min: 1, max: experts }),
        seeds: fc.array(fc.array(fc.integer({ min: -1, max: experts - 1 }), { maxLength: 30 }), { maxLength: 30 }),
      }),
    );
    fc.assert(
      fc.property(anyCalls, ({ experts, slots, seeds }) => {
        // No call needs more experts than there are slots.
        const calls = seeds.map((ids) => {
          const kept = [...new Set(ids.filter((id) => id >= 0))].slice(0, slots);
          return ids.filter((id) => id < 0 || kept.includes(id));
        });
        const lru = new LruSlots(slots);
        for (const ids of calls) lru.call([...new Set(ids)].filter((id) => id >= 0).sort((a, b) => a - b));
        const { hits, misses, evictions, resident } = lru;
        const expected = { calls: calls.length, hits, misses, evictions, resident };
        expect(replay(experts, calls, { slots, policy: "lru" })).toMatchObject(expected);
      }),
    );
  });

  test("needs no loads but the first where all experts have a slot", () => {
    for (const policy of offloadPolicies) {
      const stats = replay(16, zipfCalls(16, 4, 200, 0), { slots: 16, policy });
      expect(stats).toMatchObject({ misses: 16, evictions: 0, loadedBytes: 16 });
    }
  });

  test("lfru beats lru where some experts are used more, and lfu where that changes", () => {
    const steady = zipfCalls(128, 8, 3000, 0);
    const shifting = zipfCalls(128, 8, 3000, 5);
    const rates = (calls: number[][]) =>
      Object.fromEntries(offloadPolicies.map((policy) => [policy, rate(replay(128, calls, { slots: 32, policy }))]));
    const [still, moved] = [rates(steady), rates(shifting)] as Record<string, number>[];
    expect(still?.lfru).toBeGreaterThan((still?.lru ?? 1) + 0.02);
    expect(moved?.lfru).toBeGreaterThan((moved?.lfu ?? 1) + 0.02);
  });

  test("checks its arguments", () => {
    const message = /^offload\.pinned: expected experts from 0 to 3, got 4$/;
    expectError(() => replay(4, [], { pinned: [4] }), "INVALID_ARGUMENT", message);
    expectError(() => replay(0, [], {}), "INVALID_ARGUMENT", /^experts: expected from 1 to 2\^31 - 1$/);
    const ids = [] as unknown as Int32Array;
    const rule = { budget: null, slots: 1, bytes: 0, policy: "lru", pinned: [], rowsToLoad: 0 } as const;
    expectError(() => native.replayOffload(4, rule, ids, ids), "INVALID_ARGUMENT", /^ids: expected an Int32Array$/);
    // Ends that lie behind the ids, or descend.
    const ends = Int32Array.of(9, -1, 3);
    expect(native.replayOffload(4, rule, Int32Array.of(0, 1), ends)).toMatchObject({ calls: 3, misses: 2 });
  });
});
