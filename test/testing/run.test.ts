import { expect, test } from "vitest";
import type { Case } from "../../lib/testing/case.js";
import { relativeError } from "../../lib/testing/difference.js";
import { runCase } from "../../lib/testing/run.js";
import { openForTests } from "../support/devices.js";

const device = openForTests("reference");

test("the error is relative to the largest expected magnitude", () => {
  expect(relativeError([1, -8, 3], [1, -8, 2])).toBe(1 / 8);
  expect(relativeError([1, 2], [1, 2])).toBe(0);
  expect(relativeError([], [])).toBe(0);
  expect(relativeError([0, 1e-30], [0, 0])).toBe(Infinity);
  expect(relativeError([Number.NaN, 2], [1, 2])).toBe(Infinity);
  expect(relativeError([1], [1, 2])).toBe(Infinity);
});

/** A case whose output on the device under test differs by `change` from the expected one. */
function wrong(change: number, tolerance: number): Case {
  return {
    name: "wrong",
    operator: "permute",
    tolerances: { y: tolerance },
    run(inputs) {
      const isExpected = inputs.dtype("f32") === "f64";
      return { y: inputs.floats(Float32Array.of(1, isExpected ? 2 : 2 + change), [2], "f32") };
    },
  };
}

test("a difference beyond the tolerance does not pass", async () => {
  const { passed, checks } = await runCase(wrong(2 ** -10, 2 ** -12), device());
  expect(passed).toBe(false);
  const worst = { index: [1], value: 2 + 2 ** -10, expected: 2 };
  const difference = { error: 2 ** -11, tolerance: 2 ** -12, wrong: 1, within: [[1, 1]], worst };
  expect(checks).toEqual([{ output: "y", dtype: "f32", shape: [2], ...difference, passed: false }]);
  expect((await runCase(wrong(2 ** -10, 2 ** -11), device())).passed).toBe(true);
  expect((await runCase(wrong(Number.NaN, 1), device())).passed).toBe(false);
});

test("a result that changes from call to call does not pass", async () => {
  let calls = 0;
  const changing: Case = {
    name: "changing",
    operator: "permute",
    tolerances: { y: 0.1 },
    run(inputs) {
      const isExpected = inputs.dtype("f32") === "f64";
      if (!isExpected) calls += 1;
      return { y: inputs.floats(Float32Array.of(isExpected || calls < 3 ? 1 : 1 + 2 ** -20), [1], "f32") };
    },
  };
  const { passed, checks } = await runCase(changing, device(), 3);
  expect(passed).toBe(false);
  expect(checks).toMatchObject([
    { output: "y", tolerance: 0.1, passed: true },
    { output: "y in call 2", error: 0, tolerance: 0, passed: true },
    { output: "y in call 3", error: 2 ** -20, tolerance: 0, passed: false },
  ]);
});

test("an unwritten output does not pass", async () => {
  const unwritten: Case = {
    name: "unwritten",
    operator: "permute",
    tolerances: { y: 1 },
    run: (inputs) => ({
      y: inputs.dtype("f32") === "f64" ? inputs.floats(Float32Array.of(1), [1], "f32") : inputs.empty([1], "f32"),
    }),
  };
  expect((await runCase(unwritten, device())).passed).toBe(false);
});

test("an unexpected shape is an error", async () => {
  const misshapen: Case = {
    name: "misshapen",
    operator: "permute",
    tolerances: {},
    run: (inputs) => ({ y: inputs.empty([inputs.dtype("f32") === "f64" ? 1 : 2], "f32") }),
  };
  await expect(runCase(misshapen, device())).rejects.toThrow(/misshapen: y: expected shape \[1\], got \[2\]/);
});
