import { freemem } from "node:os";
import { expect, test } from "vitest";
import { allocated, isMemoryRefusal } from "../../lib/core/tensors/allocated.js";
import { expectError } from "../support/errors.js";
import { needs } from "../support/requirements.js";

test("memory that JavaScript does not get is an error", () => {
  const fails = () => new ArrayBuffer(2 ** 53 - 1);
  expectError(() => allocated(1, "no memory", fails), "OUT_OF_MEMORY", /^no memory$/);
  expect(allocated(8, "no memory", () => new ArrayBuffer(8)).byteLength).toBe(8);
});

test("memory that the machine does not have is not asked for", needs("Linux"), () => {
  const never = () => {
    throw new Error("asked for");
  };
  expectError(() => allocated(2 * freemem(), "no memory", never), "OUT_OF_MEMORY", /^no memory$/);
  expect(allocated(2 ** 26, "no memory", () => "asked for")).toBe("asked for");
});

test("what V8 throws for arrays that are too long is recognised", () => {
  const thrown = [
    () => new Float32Array(2 ** 50),
    () => Array.from({ length: 2 ** 40 }),
    () => "x".repeat(2 ** 40),
  ].map((make) => {
    try {
      return make();
    } catch (error) {
      return error;
    }
  });
  expect(thrown.map(isMemoryRefusal)).toEqual([true, true, true]);
  expect(isMemoryRefusal(new RangeError("Maximum call stack size exceeded"))).toBe(false);
});
