import { describe, expect, test } from "vitest";
import { routerProjection } from "../../../lib/operators/routing/router_projection.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

describe.each(kernelPaths)("routerProjection on $label", (path) => {
  const device = openForTests(path);

  // Few tokens and many take tiles of different shapes; 776 columns are not whole steps of a warp, 45 not whole vectors.
  test.each([
    { hidden: 776, x: "bf16", weight: "f32" },
    { hidden: 776, x: "bf16", weight: "bf16" },
    { hidden: 2048, x: "f32", weight: "f32" },
    { hidden: 45, x: "f16", weight: "f16" },
  ] as const)("a logit depends on its token and expert alone: $hidden columns, $x x $weight", async (problem) => {
    const { hidden, x: xDtype, weight: weightDtype } = problem;
    const random = new Random("logits");
    const [tokens, experts] = [70, 35];
    const x = device().tensor(random.normals(tokens * hidden), [tokens, hidden], xDtype);
    const weight = device().tensor(random.normals(experts * hidden), [experts, hidden], weightDtype);
    const all = await routerProjection(x, weight).data();
    for (const [first, end] of [
      [0, 1],
      [69, 70],
      [13, 16],
      [20, 29],
      [30, 63],
    ] as const) {
      const some = await routerProjection(x.rows(first, end), weight).data();
      expect(some).toEqual(all.slice(first * experts, end * experts));
    }
    for (const [first, end] of [
      [34, 35],
      [3, 12],
    ] as const) {
      const some = await routerProjection(x, weight.rows(first, end)).data();
      const expected = Array.from({ length: tokens }, (_, token) => [
        ...all.slice(token * experts + first, token * experts + end),
      ]);
      expect([...some]).toEqual(expected.flat());
    }
  });

  test("NaN and infinity stay with their token and expert", async () => {
    const random = new Random("special");
    const [tokens, experts, hidden] = [33, 34, 264];
    const values = random.normals(tokens * hidden);
    const weight = device().tensor(random.normals(experts * hidden), [experts, hidden], "f32");
    const clean = await routerProjection(device().tensor(values, [tokens, hidden], "f32"), weight).data();
    const dirty = values.with(32 * hidden, Number.NaN).with(31 * hidden + 263, Number.POSITIVE_INFINITY);
    const logits = await routerProjection(device().tensor(dirty, [tokens, hidden], "f32"), weight).data();
    expect(logits.slice(0, 31 * experts)).toEqual(clean.slice(0, 31 * experts));
    expect(
      logits.slice(31 * experts, 32 * experts).every((logit) => Math.abs(logit) === Number.POSITIVE_INFINITY),
    ).toBe(true);
    expect(logits.slice(32 * experts).every(Number.isNaN)).toBe(true);
  });
});
