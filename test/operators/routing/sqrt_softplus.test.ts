import { describe, expect, test } from "vitest";
import { gating } from "../../../lib/operators/routing/gating.js";
import { gatingBackward } from "../../../lib/operators/routing/gating_backward.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

/** Logits from -200 to 200, one a row: e^x is too small for float32 below about -88, and e^(x/2) is not. */
const ladder = Float32Array.from({ length: 401 }, (_, index) => index - 200);
const scoreOf = (x: number) => Math.sqrt(Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))));
const rule = { topK: 1, scoring: "sqrt_softplus" } as const;

/** The logits for which a value is wrong. What is less than the smallest normal float32 may be 0. */
function wrong(values: ArrayLike<number>, exactOf: (x: number) => number): number[] {
  return [...ladder].filter((x, index) => {
    const exact = exactOf(x);
    return !(Math.abs((values[index] as number) - exact) <= 2e-6 * exact + 2 ** -126);
  });
}

describe.each(kernelPaths)("the square root of softplus on $label", (path) => {
  const device = openForTests(path);
  const column = (values: Float32Array) => device().tensor(values, [values.length, 1]);

  test("is e^(x/2) far below 0, and the root of the logit far above", async () => {
    expect(wrong(await gating(column(ladder), rule).weights.data(), scoreOf)).toEqual([]);
  });

  test("orders experts by it where a bias is added", async () => {
    const logits = device().tensor([[-120, -100, -110]], [1, 3]);
    const selectionBias = device().zeros([3], "f32");
    const { ids } = gating(logits, { ...rule, topK: 3, selectionBias });
    expect(await ids.toArray()).toEqual([[1, 2, 0]]);
  });

  test("has a derivative that is half of it far below 0", async () => {
    const ids = device().zeros([ladder.length, 1], "i32");
    const ones = column(new Float32Array(ladder.length).fill(1));
    const dLogits = await gatingBackward(column(ladder), { ids }, ones, rule).data();
    expect(wrong(dLogits, (x) => 1 / (1 + Math.exp(-x)) / (2 * scoreOf(x)))).toEqual([]);
  });
});
