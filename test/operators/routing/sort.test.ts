import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { sort } from "../../../lib/operators/routing/sort.js";
import { deviceNames, openForTests } from "../../support/devices.js";

/** Reads the values of a tensor and disposes of it. */
function take(tensor: Tensor<"i32">): number[] {
  const values = [...tensor.dataSync()];
  tensor.dispose();
  return values;
}

describe.each(deviceNames)("sort on %s", (name) => {
  const device = openForTests(name);

  function sorted(ids: number[], tokens: number, topK: number, numExperts: number) {
    using tensor = device().tensor(Int32Array.from(ids), [tokens, topK]);
    const rows = sort(tensor, { numExperts });
    return {
      offsets: take(rows.offsets),
      tokensPerExpert: take(rows.tokensPerExpert),
      tokenOfRow: take(rows.tokenOfRow),
      rowOfSlot: take(rows.rowOfSlot),
    };
  }

  test("an example", () => {
    expect(sorted([2, 0, -1, 2, 0, 2], 3, 2, 4)).toEqual({
      offsets: [0, 2, 2, 5, 5],
      tokensPerExpert: [2, 0, 3, 0],
      tokenOfRow: [0, 2, 0, 1, 2, -1],
      rowOfSlot: [2, 0, -1, 3, 1, 4],
    });
  });

  // The counts for up to 32 warps come within 1 KiB of a GPU block's default limit on shared memory.
  test("expert counts that fill shared memory", () => {
    const unasked = 48 * 1024;
    const counts = Array.from({ length: 1024 }, (_, index) => index + 1).filter((experts) => {
      const warps = Math.min(32, Math.floor(unasked / (4 * experts)));
      return warps * 4 * experts > unasked - 1024;
    });
    expect(counts).toHaveLength(267);
    for (const experts of counts) {
      const ids = Array.from({ length: 1024 }, (_, slot) => (slot * 7919) % experts);
      const { offsets, rowOfSlot } = sorted(ids, 1024, 1, experts);
      expect(offsets.at(-1)).toBe(1024);
      ids.forEach((id, slot) => {
        const row = rowOfSlot[slot] ?? -1;
        if (row < (offsets[id] ?? 0) || row >= (offsets[id + 1] ?? 0)) expect.fail(`experts ${experts}, slot ${slot}`);
      });
    }
    for (const slots of [993, 8192]) expect(sorted(new Array(slots).fill(383), slots, 1, 384).offsets[383]).toBe(0);
    for (const slots of [737, 6144]) expect(sorted(new Array(slots).fill(511), slots, 1, 512).offsets[511]).toBe(0);
  });

  test("any ids: a stable permutation of the pairs, offsets that rise by the counts", () => {
    const problem = fc
      .record({
        tokens: fc.integer({ min: 0, max: 60 }),
        topK: fc.integer({ min: 1, max: 9 }),
        experts: fc.integer({ min: 1, max: 130 }),
      })
      .chain(({ tokens, topK, experts }) =>
        fc.record({
          tokens: fc.constant(tokens),
          topK: fc.constant(topK),
          experts: fc.constant(experts),
          ids: fc.array(fc.integer({ min: -1, max: experts - 1 }), {
            minLength: tokens * topK,
            maxLength: tokens * topK,
          }),
        }),
      );
    fc.assert(
      fc.property(problem, ({ tokens, topK, experts, ids }) => {
        const { offsets, tokensPerExpert, tokenOfRow, rowOfSlot } = sorted(ids, tokens, topK, experts);
        expect(offsets[0]).toBe(0);
        tokensPerExpert.forEach((count, expert) => {
          expect(count).toBe(ids.filter((id) => id === expert).length);
          expect((offsets[expert + 1] as number) - (offsets[expert] as number)).toBe(count);
        });
        const used = offsets[experts] as number;
        expect(rowOfSlot.filter((row) => row >= 0).sort((a, b) => a - b)).toEqual(Array.from(Array(used).keys()));
        expect(tokenOfRow.slice(used).every((token) => token === -1)).toBe(true);
        const lastRow = new Map<number, number>();
        ids.forEach((expert, slot) => {
          const row = rowOfSlot[slot] as number;
          if (expert < 0) {
            expect(row).toBe(-1);
            return;
          }
          expect(tokenOfRow[row]).toBe(Math.floor(slot / topK));
          expect(row).toBeGreaterThanOrEqual(offsets[expert] as number);
          expect(row).toBeLessThan(offsets[expert + 1] as number);
          expect(row).toBeGreaterThan(lastRow.get(expert) ?? -1);
          lastRow.set(expert, row);
        });
      }),
    );
  });
});
