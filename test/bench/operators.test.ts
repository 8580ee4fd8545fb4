import { describe, expect, test } from "vitest";
import type { BenchCase, CaseOptions } from "../../lib/bench/bench_case.js";
import { compareOutputs, expectedOf, failureOf } from "../../lib/bench/contenders/check.js";
import { contenderProblem, isComparable } from "../../lib/bench/contenders/problem.js";
import { sampleOf } from "../../lib/bench/contenders/sample.js";
import { operatorBenchCases } from "../../lib/bench/operator_cases.js";
import { operatorCases } from "../../lib/bench/operators/table.js";
import { operators } from "../../lib/core/operators/table.js";
import { openDevice } from "../../lib/devices.js";
import { computeOperator } from "../../lib/testing/subject/device_subject.js";
import type { SubjectInputs } from "../../lib/testing/subject/subject.js";

const config = { hiddenSize: 48, intermediateSize: 32, numExperts: 6, topK: 2, normalize: true };

const options = (name: string, more: Partial<CaseOptions> = {}): CaseOptions => ({
  ...{ config, dtype: "f32", format: "f32", tokenFormat: "none", tokenCounts: [7], weightBytes: 0 },
  wanted: (other) => other === name,
  ...more,
});

/** Makes the only case and hands it to `use`. */
async function withCase<T>(given: CaseOptions, use: (benchCase: BenchCase) => Promise<T>): Promise<T> {
  using device = openDevice("cpu", { threads: 2 });
  for await (const benchCase of operatorBenchCases(device, given)) return await use(benchCase);
  throw new Error("there is no case");
}

test("every operator has a case", () => {
  expect(new Set(operatorCases.map(({ operator }) => operator))).toEqual(new Set(Object.keys(operators)));
  expect(new Set(operatorCases.map(({ name }) => name)).size).toBe(operatorCases.length);
});

describe.each(operatorCases.map((one) => [one.name, one] as const))("%s", (name, operatorCase) => {
  test("counts its work, and can be called again and again", async () => {
    await withCase(options(name), async (benchCase) => {
      expect(benchCase).toMatchObject({ name, tokens: 7 });
      expect(benchCase.bytes).toBeGreaterThan(0);
      for (let call = 0; call < 20; call++) benchCase.enqueue();
      await benchCase.firstOutputs();
    });
  });

  const comparable = isComparable(operatorCase, { dtype: "f32", format: "f32" });
  test.runIf(comparable).each(["f32", "bf16"] as const)(
    "computes in %s what contenders are asked for",
    async (dtype) => {
      const given = options(name, { dtype, format: dtype });
      const expected = await expectedOf(contenderProblem(operatorCase, given, 7));
      const errors = compareOutputs(expected, await withCase(given, (benchCase) => benchCase.firstOutputs()));
      expect(errors.length).toBeGreaterThan(0);
      expect(failureOf(errors)).toBeNull();
    },
  );
});

test("most operators can be compared with contenders", () => {
  const comparable = operatorCases.filter((one) => isComparable(one, { dtype: "f32", format: "f32" }));
  expect(comparable.length).toBeGreaterThan(25);
});

test("operations and bytes of a product count the experts that have rows", async () => {
  const wide = { ...config, hiddenSize: 64, intermediateSize: 64 };
  const given = options("groupedGemm down", { config: wide, tokenCounts: [1] });
  const { operations, bytes } = await withCase(given, async (benchCase) => benchCase);
  expect(operations).toBe(2 * 2 * 64 * 64);
  // Rows, results and offsets, and two of the experts' matrices; packing may add a little.
  const least = 4 * (2 * 64 + 2 * 64 + 7 + 2 * 64 * 64);
  expect(bytes).toBeGreaterThanOrEqual(least);
  expect(bytes).toBeLessThan(1.2 * least);
});

test("calls rotate through copies of quantised weights too", async () => {
  const wide = { ...config, hiddenSize: 64, intermediateSize: 64 };
  const given = options("groupedGemm gate_up", {
    config: wide,
    dtype: "bf16",
    format: "i4_g32_bf16",
    tokenFormat: "int8",
    weightBytes: 200_000,
  });
  await withCase(given, async (benchCase) => {
    for (let call = 0; call < 20; call++) benchCase.enqueue();
    const { y } = await benchCase.firstOutputs();
    expect(Array.from(y as Float32Array).every(Number.isFinite)).toBe(true);
  });
});

describe("a sample of a large problem", () => {
  test.each(["groupedGemm gate_up", "groupedGemm down", "groupedGemmWeightBackward", "routerProjection"])(
    "%s: is what the whole has there, and finds a wrong value there",
    async (name) => {
      const operatorCase = operatorCases.find((one) => one.name === name) as (typeof operatorCases)[number];
      const [inputs] = contenderProblem(operatorCase, options(name, { tokenCounts: [40] }), 40).calls as [
        SubjectInputs,
      ];
      const sample = sampleOf(operatorCase.operator, inputs, 6000);
      expect(sample.text).toMatch(/^\d+ of \d+ (rows|tokens)$/);
      using reference = openDevice("reference");
      const values = await computeOperator(reference, operatorCase.operator, sample.inputs, true);
      const whole = await computeOperator(reference, operatorCase.operator, inputs, true);
      const [output] = Object.keys(values) as [string];
      const picked = sample.pick(output, whole[output] as ArrayLike<number>);
      expect(picked.length).toBeLessThan((whole[output] as ArrayLike<number>).length / 2);
      expect(Array.from(picked)).toEqual(Array.from(values[output] as ArrayLike<number>));
      const expected = { inputs, sample, values };
      expect(failureOf(compareOutputs(expected, whole))).toBeNull();
      const wrong = Float64Array.from(whole[output] as ArrayLike<number>, (value) => value + 1);
      expect(failureOf(compareOutputs(expected, { [output]: wrong }))).toMatch(/^wrong results \(/);
    },
  );

  test("is everything where that is little", () => {
    const operatorCase = operatorCases.find(
      ({ name }) => name === "groupedGemm down",
    ) as (typeof operatorCases)[number];
    const [inputs] = contenderProblem(operatorCase, options("groupedGemm down"), 7).calls as [SubjectInputs];
    expect(sampleOf("groupedGemm", inputs)).toMatchObject({ text: "", inputs });
  });
});
