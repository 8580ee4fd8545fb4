import { expect, describe as group, test } from "vitest";
import { checkChoice, checkInteger, describe, invalidArgument, isMoeError, MoeError } from "../../lib/core/errors.js";
import { expectError } from "../support/errors.js";

test("MoeError is an Error with a code, a name and a cause", () => {
  const cause = new Error("why");
  const error = new MoeError("INTERNAL", "what", { cause });
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: "MoeError", code: "INTERNAL", message: "what", cause });
  expect(error.stack).toContain("MoeError: what");
});

test("isMoeError tells it from other errors, and its codes apart", () => {
  const error = new MoeError("DISPOSED", "");
  expect(isMoeError(error)).toBe(true);
  expect(isMoeError(error, "INTERNAL", "DISPOSED")).toBe(true);
  expect(isMoeError(error, "INTERNAL")).toBe(false);
  expect(isMoeError(new Error("DISPOSED"))).toBe(false);
  expect(isMoeError({ code: "DISPOSED" })).toBe(false);
});

test("values are described in one short line", () => {
  expect(describe("a\nb")).toBe('"a\\nb"');
  expect(describe("x".repeat(100))).toHaveLength(62);
  expect(describe(12n)).toBe("12n");
  expect(describe(undefined)).toBe("undefined");
  expect(describe(null)).toBe("null");
  expect(describe([1, 2])).toBe("array of length 2");
  expect(describe(new Map())).toBe("Map");
  expect(describe(Object.create(null))).toBe("object");
  expect(describe(Math.max)).toBe("function max");
  const named = { "\u001b[31mX\n": class {} }["\u001b[31mX\n"] as new () => object;
  for (const value of [named, new named()]) {
    expect(describe(value)).not.toContain("\u001b");
    expect(describe(value)).not.toContain("\n");
  }
  expect(describe(Symbol("s"))).toBe("Symbol(s)");
});

test("an invalid argument names parameter, expectation and value", () => {
  expect(invalidArgument("topK", "an integer", "2")).toMatchObject({
    code: "INVALID_ARGUMENT",
    message: 'topK: expected an integer, got "2"',
  });
});

test("an object whose class only has the expected name is told apart", () => {
  class Tensor {}
  for (const value of [new Tensor(), new Proxy(new Tensor(), {})]) {
    expect(invalidArgument("x", "a Tensor, as device.tensor(values) makes", value).message).toBe(
      "x: expected a Tensor, as device.tensor(values) makes, " +
        "got an object of another class Tensor, as a second copy of its package has, or a proxy",
    );
  }
  expect(invalidArgument("x", "a Tensor", new Map()).message).toBe("x: expected a Tensor, got Map");
  const promise = Promise.resolve(1);
  expect(invalidArgument("x", "a Tensor", promise).message).toBe("x: expected a Tensor, got a promise; await it first");
});

group("checks", () => {
  test("integers", () => {
    checkInteger("n", 3, 3, 3);
    expectError(() => checkInteger("n", 2, 3), "INVALID_ARGUMENT", /^n: expected an integer >= 3, got 2$/);
    expectError(() => checkInteger("n", 9, 1, 8), "INVALID_ARGUMENT", /^n: expected an integer from 1 to 8, got 9$/);
    for (const value of [1.5, Number.NaN, "1", 1n, null, 2 ** 53]) {
      expectError(() => checkInteger("n", value, 0), "INVALID_ARGUMENT", /^n: expected an integer/);
    }
  });

  test("choices", () => {
    checkChoice("kind", "a", ["a", "b"]);
    expectError(
      () => checkChoice("kind", "c", ["a", "b"]),
      "INVALID_ARGUMENT",
      /^kind: expected one of "a", "b", got "c"$/,
    );
  });
});
