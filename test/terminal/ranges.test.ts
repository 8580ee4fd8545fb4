import fc from "fast-check";
import { expect, test } from "vitest";
import { formatRanges } from "../../lib/terminal/ranges.js";

test.each([
  [[], ""],
  [[5], "5"],
  [[0, 1], "0-1"],
  [[3, 4, 5, 60], "3-5, 60"],
  [[1, 3, 5, 7], "every 2nd from 1 to 7"],
  [[2, 5, 8], "every 3rd from 2 to 8"],
  [[0, 11, 22], "every 11th from 0 to 22"],
  [[0, 21, 42], "every 21st from 0 to 42"],
  [[0, 4], "0, 4"],
  [[0, 4, 5, 6], "0, 4-6"],
  [[0, 1, 3, 5, 7], "0-1, every 2nd from 3 to 7"],
])("%j is %s", (numbers, text) => expect(formatRanges(numbers)).toBe(text));

/** The numbers that a text of ranges stands for. */
function parse(text: string): number[] {
  return text.split(", ").flatMap((part) => {
    const [first, last] = part.match(/(\d+)(-| to )(\d+)$/)?.filter((_, index) => index % 2 === 1) ?? [part, part];
    const step = Number(part.match(/^every (\d+)/)?.[1] ?? 1);
    const count = (Number(last) - Number(first)) / step + 1;
    return Array.from({ length: count }, (_, index) => Number(first) + step * index);
  });
}

test("a text names exactly its numbers", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(40), { minLength: 1 }), (numbers) => {
      const ascending = [...numbers].sort((a, b) => a - b);
      expect(parse(formatRanges(ascending))).toEqual(ascending);
    }),
  );
});
