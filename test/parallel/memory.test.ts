import fc from "fast-check";
import { expect, test } from "vitest";
import { giveMemory, takeMemory } from "../../lib/parallel/memory.js";
import { newTokens } from "../../lib/parallel/messages.js";

test("memory is as long as asked, aligned, and nobody else's until it is given back", () => {
  const bytes = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 2 ** 15, max: 2 ** 19 }));
  fc.assert(
    fc.property(fc.array(fc.record({ bytes, gives: fc.boolean() }), { maxLength: 30 }), (steps) => {
      const taken: { memory: Buffer; mark: number }[] = [];
      steps.forEach(({ bytes, gives }, index) => {
        const memory = takeMemory(bytes);
        expect([memory.length, memory.byteOffset % 8]).toEqual([bytes, 0]);
        memory.fill(index + 1);
        taken.push({ memory, mark: index + 1 });
        if (gives) giveMemory((taken.shift() as { memory: Buffer }).memory);
      });
      for (const { memory, mark } of taken) {
        expect(memory.every((byte) => byte === mark)).toBe(true);
        giveMemory(memory);
      }
    }),
    { numRuns: 50 },
  );
});

test("large memory is used again, for about as many bytes", () => {
  const memory = takeMemory(2 ** 20 - 5);
  giveMemory(memory);
  expect(takeMemory(2 ** 16 + 1).buffer).not.toBe(memory.buffer);
  expect(takeMemory(2 ** 20).buffer).toBe(memory.buffer);
});

test("nothing of what was in memory before is sent between the arrays of a message", () => {
  giveMemory(takeMemory(2 ** 17).fill(255));
  // 3 tokens of an odd width in 16 bits, and 3 choices each.
  const { body, tokens, weights, ids } = newTokens(
    { layer: 0, count: 3, choices: 3, dtype: "bf16", weightDType: "f32" },
    19_999,
  );
  expect(body.buffer.byteLength).toBe(2 ** 17);
  for (const array of [tokens, weights, ids]) array.fill(0);
  expect(body.subarray(16).every((byte) => byte === 0)).toBe(true);
});
