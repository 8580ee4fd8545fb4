import { expect, test } from "vitest";
import type { LocatedWeight } from "../../../lib/checkpoint/locate/located_weight.js";
import { weightStack } from "../../../lib/checkpoint/locate/weight_stack.js";

/** Matrices [1, 4] of codes of 8 bits, with scales of two tensors: one for each matrix, and one that all have. */
function matrices(orders: readonly (Int32Array | undefined)[]): LocatedWeight[] {
  const file = { path: "model.safetensors", readRange: async () => {} };
  return orders.map((inputOrder, index) => ({
    name: "a",
    format: "i8_channel_f32",
    shape: [1, 4],
    layout: {},
    ranges: [
      { file, name: "a", byteOffset: 4 * index, byteLength: 4 },
      { file, name: "a_scale", byteOffset: 4 * index, byteLength: 4 },
      { file, name: "a_global", byteOffset: 0, byteLength: 4 },
    ],
    convert: ([codes, own, ofAll]) => {
      const scales = new Float32Array((own as Uint8Array).buffer);
      const global = new Float32Array((ofAll as Uint8Array).buffer);
      scales[0] = (scales[0] as number) * (global[0] as number);
      global.fill(0);
      return { codes: codes as Uint8Array, scales, ...(inputOrder && { inputOrder }) };
    },
  }));
}

test("reads each tensor once, and converts matrices one after another", async () => {
  const stack = weightStack(matrices([undefined, Int32Array.of(3, 1, 0, 2), undefined]));
  expect(stack).toMatchObject({ name: "a", format: "i8_channel_f32", shape: [3, 1, 4] });
  expect(stack.ranges.map(({ name, byteOffset, byteLength }) => [name, byteOffset, byteLength])).toEqual([
    ["a", 0, 12],
    ["a_scale", 0, 12],
    ["a_global", 0, 4],
  ]);
  const bytes = (values: readonly number[]) => new Uint8Array(Float32Array.from(values).buffer);
  const codes = Uint8Array.from({ length: 12 }, (_, i) => i);
  const read = await stack.convert?.([codes, bytes([1, 2, 3]), bytes([10])]);
  expect(read?.codes).toEqual(codes);
  expect(read?.scales).toEqual(bytes([10, 20, 30]));
  // Inputs in order where a matrix has no order of its own.
  expect(new Int32Array(read?.inputOrder?.buffer as ArrayBuffer)).toEqual(
    Int32Array.of(0, 1, 2, 3, 3, 1, 0, 2, 0, 1, 2, 3),
  );
});

test("floats are one range of the file", () => {
  const floats = matrices([undefined, undefined]).map(({ convert: _, ranges, ...weight }) => ({
    ...weight,
    format: "f32" as const,
    ranges: ranges.slice(0, 1),
  }));
  const stack = weightStack(floats);
  expect(stack.convert).toBeUndefined();
  expect(stack.ranges).toMatchObject([{ name: "a", byteOffset: 0, byteLength: 8 }]);
});
