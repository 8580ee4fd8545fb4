import { expect, test } from "vitest";
import type { BenchCase } from "../../bench/case.js";
import { betterOf, floorSeconds, peakGflops } from "../../bench/ceilings.js";

const ceilings = { fmaGflops: 200, bf16Gflops: 400, readGBs: 50 };
const benchCase = (operations: number, bytes: number): BenchCase => ({
  operator: "layer",
  tokens: 1,
  operations,
  bytes,
  enqueue() {},
});

test("the floor is the longer of moving the bytes and doing the operations", () => {
  expect(floorSeconds(benchCase(1e9, 100e9), ceilings, "f32")).toBeCloseTo(2);
  expect(floorSeconds(benchCase(800e9, 1e9), ceilings, "f32")).toBeCloseTo(4);
  expect(floorSeconds(benchCase(800e9, 1e9), ceilings, "bf16")).toBeCloseTo(2);
});

test("bf16 falls back on float32 multiply-adds if the CPU has no dot product for it", () => {
  expect(peakGflops({ ...ceilings, bf16Gflops: 0 }, "bf16")).toBe(200);
  expect(peakGflops(ceilings, "f16")).toBe(200);
});

test("of two measurements, the better of each kind counts", () => {
  const other = { fmaGflops: 210, bf16Gflops: 390, readGBs: 30 };
  expect(betterOf(ceilings, other)).toEqual({ fmaGflops: 210, bf16Gflops: 400, readGBs: 50 });
});
