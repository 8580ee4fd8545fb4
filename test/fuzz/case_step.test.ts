import { expect, test } from "vitest";
import { smallerValues } from "./case_step.js";
import { Draw } from "./draw.js";

test("a problem keeps the fields that it needs while it is made smaller", () => {
  const draw = new Draw("seed");
  const optional = draw.some({ bias: true }, 1);
  const smaller = [...smallerValues([{ steps: 2, sizes: [3], name: "x", ...optional }, 0], draw.optional)];
  const common = { steps: 2, sizes: [3], name: "x", bias: true };
  expect(smaller).toEqual([
    ...[1, 1, 1].map((steps) => [{ ...common, steps }, 0]),
    ...[1, 1, 2].map((size) => [{ ...common, sizes: [size] }, 0]),
    [{ steps: 2, sizes: [3], name: "x" }, 0],
  ]);
});
