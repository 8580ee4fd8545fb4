import { expect, test } from "vitest";
import { withAllocationLimit } from "./allocations.js";
import { Failure } from "./step.js";

const limit = 1000;
const tooLarge: Readonly<Record<string, () => unknown>> = {
  ArrayBuffer: () => new ArrayBuffer(1001),
  Uint8Array: () => new Uint8Array(1001),
  Float32Array: () => new Float32Array(251),
  "a typed array from a list": () => Float64Array.from({ length: 126 }),
  Array: () => new Array(126),
  "an array from a length": () => Array.from({ length: 126 }, (_, index) => index),
  "Buffer.alloc": () => Buffer.alloc(1001),
  "Buffer.allocUnsafe": () => Buffer.allocUnsafe(1001),
};

test.each(Object.entries(tooLarge))("%s of more than the limit is a failure", async (_, allocate) => {
  await expect(withAllocationLimit(limit, async () => allocate())).rejects.toThrow(Failure);
  expect(allocate()).toBeDefined(); // and is allowed again afterwards
});

test("what is smaller, and views, are as they always are", async () => {
  const buffer = new ArrayBuffer(5000);
  await withAllocationLimit(limit, async () => {
    const bytes = new Uint8Array(1000);
    expect(bytes instanceof Uint8Array).toBe(true);
    expect(Object.getPrototypeOf(bytes).constructor.name).toBe("Uint8Array");
    expect(new Uint8Array(buffer, 8).length).toBe(4992);
    expect(Array.from({ length: 125 }, (_, index) => index)).toHaveLength(125);
    expect([...new Array(2).fill(1), 3]).toEqual([1, 1, 3]);
    expect(Array.isArray(new Array(3))).toBe(true);
  });
});
