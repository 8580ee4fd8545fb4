import { describe, expect, test } from "vitest";
import type { BenchCase, CaseOptions } from "../../lib/bench/bench_case.js";
import { checkContender, compareOutputs, expectedOf, failureOf } from "../../lib/bench/contenders/check.js";
import { sampleOf } from "../../lib/bench/contenders/sample.js";
import { layerCases } from "../../lib/bench/layer_cases.js";
import { operatorBenchCases } from "../../lib/bench/operator_cases.js";
import { operatorCases } from "../../lib/bench/operators/table.js";
import type { WeightFormatName } from "../../lib/core/formats/weight_format.js";
import { operators } from "../../lib/core/operators/table.js";
import { openDevice } from "../../lib/devices.js";
import * as exported from "../../lib/index.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import { relativeError } from "../../lib/testing/difference.js";
import { deviceSubject } from "../../lib/testing/subject/device_subject.js";
import type { SubjectInputs, SubjectOperator, TestArray } from "../../lib/testing/subject/subject.js";
import { testedOperators } from "../../lib/testing/subject/test_cases.js";

const config = { hiddenSize: 48, intermediateSize: 32, numExperts: 6, topK: 2, normalize: true };

const options = (more: Partial<CaseOptions> = {}): CaseOptions => ({
  ...{ config, dtype: "f32", format: "f32", tokenFormat: "none", tokenCounts: [7], weightBytes: 0 },
  ...more,
});

test("cases are named as functions are, or as subjects have their operators", () => {
  const known = [...Object.keys(exported), ...testedOperators, "copyMatrix"];
  const names = operatorCases.map(({ name }) => name.split(" ")[0] as string);
  expect(names.filter((name) => !known.includes(name))).toEqual([]);
});

/** Makes the first case of that name and hands it to `use`. */
async function withCase<T>(
  name: string,
  given: CaseOptions,
  use: (benchCase: BenchCase) => T | Promise<T>,
): Promise<T> {
  using device = openDevice("cpu", { threads: 2 });
  const operatorCase = operatorCases.find((one) => one.name === name);
  const cases = operatorCase ? operatorBenchCases(device, operatorCase, given) : layerCases(device, given);
  for await (const benchCase of cases) return await use(benchCase);
  throw new Error("there is no case");
}

/** What is expected of a case, and how what we compute differs. */
async function compared(benchCase: BenchCase) {
  const { operator } = benchCase;
  const expected = await expectedOf({ operator, calls: benchCase.contenderCalls() });
  return { expected, errors: compareOutputs(expected, await benchCase.firstOutputs()) };
}

test("every operator has a case", () => {
  expect(new Set(operatorCases.map(({ operator }) => operator))).toEqual(new Set(Object.keys(operators)));
  expect(new Set(operatorCases.map(({ name }) => name)).size).toBe(operatorCases.length);
});

const comparable = operatorCases.filter(({ operator }) => (testedOperators as readonly string[]).includes(operator));

test.each(operatorCases.map(({ name }) => name))(
  "%s counts its work, and can be called again and again",
  async (name) => {
    await withCase(name, options(), async (benchCase) => {
      expect(benchCase).toMatchObject({ name, tokens: 7 });
      expect(benchCase.bytes).toBeGreaterThan(0);
      for (let call = 0; call < 20; call++) benchCase.enqueue();
      await benchCase.firstOutputs();
    });
  },
);

describe.each(["layer", ...comparable.map(({ name }) => name)])("%s", (name) => {
  test.each(["f32", "bf16"] as const)("computes in %s what contenders are asked for", async (dtype) => {
    const { errors, copies } = await withCase(name, options({ dtype, format: dtype }), async (benchCase) => {
      for (let call = 0; call < 3; call++) benchCase.enqueue();
      return { ...(await compared(benchCase)), copies: benchCase.contenderCalls() };
    });
    expect(copies.length).toBeGreaterThan(1);
    expect(errors.length).toBeGreaterThan(0);
    expect(failureOf(errors)).toBeNull();
  });
});

describe.each(["i4_g32_bf16", "u4_g128_f16", "i8_channel_f32", "e4m3_channel_f32", "mxfp4", "nvfp4", "q4_k"] as const)(
  "weights in %s",
  (format) => {
    test.each(["layer", "groupedGemm gate_up", "groupedGemm down"])("%s: contenders get the same", async (name) => {
      const given = options({ dtype: "bf16", format });
      const { expected, errors } = await withCase(name, given, compared);
      expect(failureOf(errors)).toBeNull();
      const { experts = { weight: expected.inputs.weight } } = expected.inputs.weights ?? {};
      for (const weight of Object.values<SubjectInputs>(experts)) {
        expect(weight).toMatchObject({ format, codes: { dtype: "u8" }, columns: expect.any(Number) });
      }
    });
  },
);

test("contenders get as many copies of weights as we rotate through, and the same objects again", async () => {
  const given = options({ weightBytes: 200_000 });
  for (const [name, field] of [
    ["layer", "weights"],
    ["groupedGemm down", "weight"],
  ] as const) {
    await withCase(name, given, (benchCase) => {
      const [first, again] = [benchCase.contenderCalls(), benchCase.contenderCalls()];
      expect(new Set(first.map((call) => call[field])).size).toBeGreaterThan(1);
      expect(again.map((call) => call[field])).toEqual(first.map((call) => call[field]));
      expect(again[0]?.[field]).toBe(first[0]?.[field]);
    });
  }
});

test("products that round tokens have no contenders, and say why", async () => {
  const given = options({ format: "i4_g32_bf16", tokenFormat: "int8" });
  for (const name of ["layer", "groupedGemm down"]) {
    expect(await withCase(name, given, ({ incomparable }) => incomparable)).toMatch(/round tokens to int8/);
  }
  expect(await withCase("sort", given, ({ incomparable }) => incomparable)).toBeNull();
});

test("layers of which not all weights are drawn have no contenders, and say why", async () => {
  const shared = options({ config: { ...config, sharedExpert: { intermediateSize: 16 } } });
  expect(await withCase("layer", shared, ({ incomparable }) => incomparable)).toBe(
    "no weights are drawn for sharedExpert",
  );
});

test("most operators can be compared with contenders", () => {
  expect(comparable.length).toBeGreaterThan(28);
});

test("operations and bytes of a product count the experts that have rows", async () => {
  const wide = { ...config, hiddenSize: 64, intermediateSize: 64 };
  const given = options({ config: wide, tokenCounts: [1] });
  const { operations, bytes } = await withCase("groupedGemm down", given, (benchCase) => benchCase);
  expect(operations).toBe(2 * 2 * 64 * 64);
  // Rows, results and offsets, and two of the experts' matrices; packing may add a little.
  const least = 4 * (2 * 64 + 2 * 64 + 7 + 2 * 64 * 64);
  expect(bytes).toBeGreaterThanOrEqual(least);
  expect(bytes).toBeLessThan(1.2 * least);
});

test("calls rotate through copies of quantised weights too", async () => {
  const wide = { ...config, hiddenSize: 64, intermediateSize: 64 };
  const given = options({
    config: wide,
    dtype: "bf16",
    format: "i4_g32_bf16",
    tokenFormat: "int8",
    weightBytes: 200_000,
  });
  await withCase("groupedGemm gate_up", given, async (benchCase) => {
    for (let call = 0; call < 20; call++) benchCase.enqueue();
    const { y } = await benchCase.firstOutputs();
    expect(Array.from(y as Float32Array).every(Number.isFinite)).toBe(true);
  });
});

describe("a sample of a large problem", () => {
  const products = ["groupedGemm gate_up", "groupedGemm down", "groupedGemmWeightBackward", "routerProjection"];
  const formats = { f32: [...products, "layer"], i4_g32_bf16: ["groupedGemm down", "layer"] } as const;
  const cases = Object.entries(formats).flatMap(([format, names]) => names.map((name) => [name, format] as const));

  test.each(cases)("%s of %s: is what the whole has there, and finds a wrong value there", async (name, format) => {
    const given = options({ tokenCounts: [40], format: format as WeightFormatName });
    const { operator, inputs } = await withCase(name, given, (benchCase) => {
      const [inputs] = benchCase.contenderCalls() as [SubjectInputs];
      return { operator: benchCase.operator, inputs };
    });
    const sample = await sampleOf(operator, inputs, name === "layer" ? 1e6 : 6000);
    expect(sample.text).toMatch(/^\d+ of \d+ (rows|tokens)$/);
    const whole = await sampleOf(operator, inputs);
    expect(whole.text).toBe("");
    const [output] = Object.keys(sample.values) as [string];
    const all = whole.values[output] as ArrayLike<number>;
    const picked = sample.pick(output, all);
    expect(picked.length).toBeLessThan(all.length / 2);
    expect(relativeError(picked, sample.values[output] as ArrayLike<number>)).toBeLessThan(1e-12);
    const expected = { operator, inputs, sample };
    expect(failureOf(compareOutputs(expected, { [output]: all }))).toBeNull();
    const wrong = Float64Array.from(all, (value) => value + 1);
    expect(failureOf(compareOutputs(expected, { [output]: wrong }))).toMatch(/^wrong results \(/);
  });
});

describe("a layer", () => {
  const variants: Readonly<Record<string, Partial<MoeLayerConfig>>> = {
    relu: { activation: "relu" },
    "groups of experts": { scoring: "sigmoid", groups: { count: 3, top: 2, score: "max" } },
    "a capacity": { capacity: { tokens: 2, drop: "position" } },
    "experts that choose": { expertChoice: { factor: 1 }, topK: 6, normalize: false },
    "softmax of outputs": { outputActivation: "softmax" },
    "weights on inputs": { weightOn: "input" },
  };

  test.each(Object.keys(variants))("with %s is compared token by token", async (variant) => {
    const given = options({ config: { ...config, ...variants[variant] } as MoeLayerConfig, tokenCounts: [24] });
    const { expected, errors } = await withCase("layer", given, compared);
    expect(failureOf(errors)).toBeNull();
    const some = await sampleOf("layer", expected.inputs, 1e6);
    expect(some.text).toMatch(/^\d+ of 24 tokens$/);
    const sample = { ...expected, sample: some };
    expect(failureOf(compareOutputs(sample, await withCase("layer", given, (one) => one.firstOutputs())))).toBeNull();
  });

  test("tokens whose experts rounding could change are left out", async () => {
    const inputs = await withCase("layer", options(), (benchCase) => benchCase.contenderCalls()[0] as SubjectInputs);
    const { hiddenSize, numExperts } = config;
    const { router, ...weights } = inputs.weights as { router: TestArray };
    const data = Float64Array.from(router.data);
    const x: Float32Array = inputs.x.data.subarray(0, hiddenSize);
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Array.from(a).reduce((sum, value, index) => sum + value * (b[index] as number), 0);
    const rows = Array.from({ length: numExperts }, (_, expert) =>
      data.subarray(expert * hiddenSize, (expert + 1) * hiddenSize),
    ).sort((a, b) => dot(b, x) - dot(a, x));
    // Of the first token, the expert that is just not chosen gets the logit of the last that is.
    const [chosen, next] = rows.slice(1) as [Float64Array, Float64Array];
    const step = (dot(chosen, x) - dot(next, x)) / dot(x, x);
    for (let h = 0; h < hiddenSize; h++) next[h] = (next[h] as number) + step * (x[h] as number);
    const close = { ...inputs, weights: { ...weights, router: { ...router, data: Float32Array.from(data) } } };
    expect((await sampleOf("layer", inputs)).text).toBe("");
    const { text, pick } = await sampleOf("layer", close);
    expect(text).toMatch(/^[1-6] of 7 tokens$/);
    const positions = Float64Array.from({ length: 7 * hiddenSize }, (_, index) => index);
    expect(Math.min(...Array.from(pick("y", positions)))).toBeGreaterThanOrEqual(hiddenSize);
  });

  test("of a wrong contender is found", async () => {
    const subject = deviceSubject(openDevice("cpu", { threads: 2 }));
    const layer = subject.operators.layer as SubjectOperator<"layer">;
    const swapped: typeof layer = (inputs) => {
      const { gate, up, down } = inputs.weights.experts;
      return layer({ ...inputs, weights: { ...inputs.weights, experts: { gate: up, up: gate as typeof up, down } } });
    };
    const { expected } = await withCase("layer", options({ dtype: "bf16", format: "bf16" }), compared);
    const check = (operator: typeof layer) =>
      checkContender({ name: "other", operators: { layer: operator } }, expected);
    expect(await check(layer)).toMatchObject({
      failure: null,
      leftOut: null,
      errors: [{ output: "y", tolerance: 2e-2 }],
    });
    expect((await check(layer)).errors[0]?.why).toContain("between the products");
    expect((await check(swapped)).failure).toMatch(/^wrong results \(y: expected an error of at most 2\.0e-2, got \d/);
    expect(await check(() => null)).toMatchObject({ failure: null, leftOut: "it does not support this case" });
  });
});
