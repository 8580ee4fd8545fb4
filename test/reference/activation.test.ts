import { expect, test } from "vitest";
import { type Activation, defaultClamp } from "../../lib/core/layer/activation.js";
import { activate } from "../../lib/reference/experts/activation.js";

const { POSITIVE_INFINITY: infinity } = Number;
const points = [-10, -3, -1, -0.5, 0, 0.5, 1, 3, 10];

/** Values at these points, computed from the formulas with 30 digits by mpmath 1.3. */
const silu = [
  -0.00045397868702434395, -0.14227761953270035, -0.2689414213699951, -0.18877033439907273, 0, 0.3112296656009273,
  0.7310585786300049, 2.8577223804672998, 9.999546021312975,
];
const gelu = [
  -7.619853024160526e-23, -0.0040496940948902835, -0.15865525393145705, -0.15426876936299344, 0, 0.34573123063700656,
  0.8413447460685429, 2.99595030590511, 10,
];
const geluTanh = [
  0, -0.0036373920817730186, -0.1588080093917233, -0.15428599017485609, 0, 0.34571400982514394, 0.8411919906082767,
  2.996362607918227, 10,
];
const relu = points.map((x) => Math.max(x, 0));

const plain: readonly (readonly [Activation, readonly number[]])[] = [
  ["none", points],
  ["relu", relu],
  ["relu2", relu.map((value) => value * value)],
  ["silu", silu],
  ["gelu", gelu],
  ["gelu_tanh", geluTanh],
];

test.each(plain)("%s", (activation, expected) => {
  const actual = activate(activation, defaultClamp, Float64Array.from(points));
  expect(actual).toHaveLength(points.length);
  actual.forEach((value, index) => {
    expect(Math.abs(value - (expected[index] as number))).toBeLessThanOrEqual(1e-15 * 10);
  });
});

const gated: readonly (readonly [Activation, readonly number[]])[] = [
  ["swiglu", silu],
  ["geglu", gelu],
  ["geglu_tanh", geluTanh],
  ["reglu", relu],
];

test.each(gated)("%s multiplies the activated gates by the up values after them", (activation, gates) => {
  const ups = points.map((_, index) => 2 - index);
  const actual = activate(activation, defaultClamp, Float64Array.from([...points, ...ups]));
  expect(actual).toHaveLength(points.length);
  actual.forEach((value, index) => {
    expect(Math.abs(value - (gates[index] as number) * (ups[index] as number))).toBeLessThanOrEqual(1e-13);
  });
});

test.each(["relu", "silu", "gelu", "gelu_tanh"] as const)("%s of NaN is NaN", (activation) => {
  expect(activate(activation, defaultClamp, Float64Array.of(Number.NaN))[0]).toBeNaN();
});

test("swiglu_clamped bounds the gate above and the up value on both sides", () => {
  const clamp = { alpha: 1.5, limit: 2, upLimit: 2, offset: 1 };
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const actual = activate("swiglu_clamped", clamp, Float64Array.of(-5, 1, 3, 3, 0.5, -3, 0.5, 7));
  const expected = [
    [-5, 0.5],
    [1, -2],
    [2, 0.5],
    [2, 2],
  ].map(([gate, up]) => (gate as number) * sigmoid(1.5 * (gate as number)) * ((up as number) + 1));
  actual.forEach((value, index) => {
    expect(Math.abs(value - (expected[index] as number))).toBeLessThanOrEqual(1e-15);
  });
});

test("swiglu_clamped_after bounds SiLU above, and the up value as swiglu_clamped", () => {
  const clamp = { alpha: 1, limit: 2, upLimit: 3, offset: 0 };
  const actual = activate("swiglu_clamped_after", clamp, Float64Array.of(-1, 1, 3, 10, -3, 0.5, 2, -7));
  const expected = [(silu[2] as number) * -3, (silu[6] as number) * 0.5, 2 * 2, 2 * -3];
  actual.forEach((value, index) => {
    expect(Math.abs(value - (expected[index] as number))).toBeLessThanOrEqual(1e-15);
  });
});

test("situ limits the gate and the up value by hyperbolic tangents", () => {
  const clamp = { alpha: 1, limit: 4, upLimit: 25, offset: 0 };
  const actual = activate("situ", clamp, Float64Array.of(-1, 3, 1000, 2, -30, 1));
  // 4 tanh(g / 4) / (1 + exp(-g)) · 25 tanh(u / 25), computed with 30 digits
  const expected = [-0.525828895514303, -50.43830946782646, 3.997868031116357];
  actual.forEach((value, index) => {
    expect(Math.abs(value / (expected[index] as number) - 1)).toBeLessThanOrEqual(1e-14);
  });
});

test.each(["swiglu_clamped", "swiglu_clamped_after", "situ"] as const)("%s without limits is swiglu", (activation) => {
  const clamp = { alpha: 1, limit: infinity, upLimit: infinity, offset: 0 };
  const row = Float64Array.from([...points, ...points.toReversed()]);
  expect(activate(activation, clamp, row)).toEqual(activate("swiglu", defaultClamp, row));
});
