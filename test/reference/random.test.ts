import { expect, test } from "vitest";
import { philox, randomNumbers } from "../../lib/reference/noise/random.js";

/** Known answers published by the authors with their library, Random123. */
const known = [
  { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
] as const;

test.each(known)("Philox4x32-10 of counter $counter and key $key", ({ counter, key, words }) => {
  expect(philox(counter, key)).toEqual(words);
});

test("number n is word n mod 4 of counter floor(n / 4), at the midpoint of its part of (0, 1)", () => {
  const [, , word2, word3] = known[0].words;
  const numbers = randomNumbers(0n, 2, 2, "uniform");
  expect([...numbers]).toEqual([word2, word3].map((word) => ((word >>> 9) + 0.5) / 2 ** 23));
});
