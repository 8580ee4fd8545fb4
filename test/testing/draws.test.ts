import { expect, test } from "vitest";
import { Draws, drawsOf } from "../../lib/testing/inputs/draws.js";
import { Random } from "../../lib/testing/inputs/random.js";

const draw = (random: Random) => random.normals(3);

test("the first run draws a value, and others get it and go on as the first did", () => {
  const draws = new Draws("seed");
  const runs = [1, 2].map(() => {
    const random = new Random(draws.seed);
    return [draws.value(0, random, draw), random.uniform(), draws.value(1, random, draw), random.uniform()] as const;
  });
  const [first, second] = runs as [(typeof runs)[0], (typeof runs)[0]];
  expect(second).toEqual(first);
  expect([second[0] === first[0], second[2] === first[2]]).toEqual([true, true]);
  expect(first[2]).not.toEqual(first[0]);
  const alone = new Random("seed");
  expect([draw(alone), alone.uniform(), draw(alone), alone.uniform()]).toEqual(first);
});

test("the draws of a case are kept until another case or seed has run", () => {
  const [one, other] = [{ name: "one" }, { name: "other" }];
  const draws = drawsOf(one, "seed");
  expect(drawsOf(one, "seed")).toBe(draws);
  expect(drawsOf(one, "another seed")).not.toBe(draws);
  const again = drawsOf(one, "seed");
  expect(again).not.toBe(draws);
  expect(drawsOf(other, "seed")).not.toBe(again);
  expect(drawsOf(one, "seed")).not.toBe(again);
});
