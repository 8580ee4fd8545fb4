import { expect, test } from "vitest";
import { openDevice } from "../../lib/index.js";
import type { Case } from "../../lib/testing/case.js";
import { runCase } from "../../lib/testing/run.js";

const tolerance = 1e-3;

/** Outputs that are off by 0.01 everywhere but in float64. */
const subject = (groups: Record<string, string>): Case<string> => ({
  name: "outputs",
  operator: "none",
  tolerances: { small: tolerance, large: tolerance, alone: tolerance },
  groups,
  run(inputs) {
    const { device } = inputs;
    const off = inputs.dtype("f32") === "f32" ? 0.01 : 0;
    const value = (exact: number) => device.tensor([exact + off]);
    return { small: value(1), large: value(-20), alone: value(2) };
  },
});

test("outputs of a group have the errors of its largest value, others of their own", async () => {
  using device = openDevice("cpu");
  const passed = async (groups: Record<string, string>) =>
    (await runCase(subject(groups), device)).checks.filter((check) => check.passed).map(({ output }) => output);
  expect(await passed({ small: "one", large: "one", alone: "other" })).toEqual(["small", "large"]);
  expect(await passed({})).toEqual(["large"]);
});
