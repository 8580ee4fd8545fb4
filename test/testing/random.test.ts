import { expect, test } from "vitest";
import { Random } from "../../lib/testing/inputs/random.js";

test("the same seed gives the same numbers, another seed different ones", () => {
  const draw = (seed: number | string) => Array.from(new Random(seed).normals(5));
  expect(draw("a")).toEqual(draw("a"));
  expect(draw("a")).not.toEqual(draw("b"));
  expect(draw(1)).not.toEqual(draw(2));
});

test("normal values have mean 0 and the given deviation", () => {
  const values = new Random(3).normals(200_001, 2);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  expect(Math.abs(mean)).toBeLessThan(0.02);
  expect(Math.abs(Math.sqrt(variance) - 2)).toBeLessThan(0.02);
  const within = values.filter((value) => Math.abs(value) < 2).length / values.length;
  expect(within).toBeCloseTo(0.6827, 2);
});

test("integers cover their range evenly, both ends included", () => {
  const random = new Random(4);
  const counts = [0, 0, 0];
  for (let draw = 0; draw < 30_000; draw++) (counts[random.integer(-1, 1) + 1] as number)++;
  for (const count of counts) expect(Math.abs(count / 10_000 - 1)).toBeLessThan(0.05);
});

test("a sample has no duplicates", () => {
  const random = new Random(5);
  for (let draw = 0; draw < 100; draw++) {
    const sample = random.sample(7, 9);
    expect(new Set(sample).size).toBe(7);
    for (const value of sample) expect(value >= 0 && value < 9).toBe(true);
  }
  expect(random.sample(4, 4).sort()).toEqual([0, 1, 2, 3]);
});
