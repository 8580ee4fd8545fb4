import { describe, expect, test } from "vitest";
import { checkDType, fromBF16, fromF16, toBF16, toF16 } from "../../lib/core/tensors/dtype.js";

describe.each([
  { name: "f16", to: toF16, from: fromF16, infinity: 0x7c00 },
  { name: "bf16", to: toBF16, from: fromBF16, infinity: 0x7f80 },
])("$name", ({ to, from, infinity }) => {
  const sign = 0x8000;

  test("every bit pattern survives conversion to its value and back", () => {
    const changed: number[] = [];
    for (let bits = 0; bits <= 0xffff; bits++) {
      const value = from(bits);
      const back = to(value);
      const nan = (bits & 0x7fff) > infinity;
      if (nan ? !Number.isNaN(value) || (back & 0x7fff) <= infinity : back !== bits) changed.push(bits);
    }
    expect(changed).toEqual([]);
  });

  test("values between two neighbours round to the nearest, midpoints to the even one", () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < infinity - 1; bits++) {
      const [low, high] = [from(bits), from(bits + 1)];
      const middle = (low + high) / 2;
      const even = bits % 2 === 0 ? bits : bits + 1;
      const nudge = (high - low) * 2 ** -40;
      const right =
        to(middle) === even &&
        to(middle - nudge) === bits &&
        to(middle + nudge) === bits + 1 &&
        to(-middle) === (even | sign) &&
        to(-middle - nudge) === ((bits + 1) | sign) &&
        to(-middle + nudge) === (bits | sign);
      if (!right) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  test("values become infinity from the midpoint of the last step on", () => {
    const largest = from(infinity - 1);
    const half = (largest - from(infinity - 2)) / 2;
    expect(to(largest + half * 0.999)).toBe(infinity - 1);
    expect(to(largest + half)).toBe(infinity);
    expect(to(1e300)).toBe(infinity);
    expect(to(Number.NEGATIVE_INFINITY)).toBe(infinity | sign);
  });

  test("signed zeros, and values too small for a subnormal", () => {
    expect(to(-0)).toBe(sign);
    expect(to(5e-324)).toBe(0);
    expect(to(-5e-324)).toBe(sign);
    expect(Object.is(from(sign), -0)).toBe(true);
  });
});

test("an unknown dtype is named in the error", () => {
  expect(() => checkDType("f8")).toThrow(/dtype: expected one of "f32".*got "f8"/);
});
