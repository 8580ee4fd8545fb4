import { expect, test } from "vitest";
import {
  betterOf,
  boundOf,
  ceilingsText,
  floorSeconds,
  kernelText,
  measureCeilings,
  measureReadRate,
  peakGflops,
} from "../../lib/bench/ceilings.js";
import type { ProductKernel } from "../../lib/core/addon/native.js";

const ceilings = { fmaGflops: 200, bf16Gflops: 1800, int8Gops: 4000, readGBs: 50 };
const kernel = (peak: ProductKernel["peak"], products = 1): ProductKernel => ({ name: "amx row", peak, products });
const benchCase = (operations: number, bytes: number) => ({ operations, bytes });

test("the floor is the longer of moving the bytes and doing the operations", () => {
  expect(floorSeconds(benchCase(1e9, 100e9), ceilings, kernel("fma"))).toBeCloseTo(2);
  expect(floorSeconds(benchCase(800e9, 1e9), ceilings, kernel("fma"))).toBeCloseTo(4);
  expect(floorSeconds(benchCase(800e9, 1e9), ceilings, kernel("int8"))).toBeCloseTo(0.2);
});

test("a product reaches its kernel's peak, or a share if it multiplies in parts", () => {
  expect(peakGflops(ceilings, kernel("fma"))).toBe(200);
  expect(peakGflops(ceilings, kernel("int8"))).toBe(4000);
  expect([1, 2, 3, 6].map((products) => peakGflops(ceilings, kernel("bf16", products)))).toEqual([1800, 900, 600, 300]);
});

test("in words", () => {
  expect(ceilingsText(ceilings)).toBe("200 GFLOP/s f32 FMA, 1800 GFLOP/s bf16, 4000 GOP/s int8, 50.0 GB/s read");
  expect(ceilingsText({ ...ceilings, bf16Gflops: 0 })).toContain(", no bf16, ");
  expect(kernelText(ceilings, kernel("int8"))).toBe("amx row, at most 4000 GOP/s (int8)");
  expect(kernelText(ceilings, kernel("bf16", 3))).toBe("amx row, at most 600 GFLOP/s (bf16 / 3)");
});

test("of two measurements, the better of each kind counts", () => {
  const other = { fmaGflops: 210, bf16Gflops: 1790, int8Gops: 4100, readGBs: 30 };
  expect(betterOf(ceilings, other)).toEqual({ fmaGflops: 210, bf16Gflops: 1800, int8Gops: 4100, readGBs: 50 });
});

test("times are compared with each round's read rate", () => {
  const boundBeside = (times: readonly number[]) =>
    boundOf(benchCase(1e9, 60e9), ceilings, [30, 20, 60], kernel("fma"), times);
  const bound = boundBeside([1, 2, 4]);
  expect(bound.readGBs).toBe(30);
  expect(bound.floor).toBeCloseTo(2); // of 2, 3 and 1
  expect(bound.ofCeiling).toBeCloseTo(1.5); // of 2, 1.5 and 0.25
  expect(boundBeside([4, 4, 4]).ofCeiling).toBeCloseTo(0.5);
});

test("measureCeilings measures, and refuses other options", async () => {
  const measured = await measureCeilings({ threads: 1 });
  for (const name of ["fmaGflops", "int8Gops", "readGBs"] as const) expect(measured[name]).toBeGreaterThan(0);
  expect(measured.bf16Gflops).toBeGreaterThanOrEqual(0);
  expect((await measureCeilings({ threads: 1, seconds: 0.001 })).readGBs).toBeGreaterThan(0);
  expect(await measureReadRate(0.001, 1)).toBeGreaterThan(0);
  await expect(measureCeilings({ seconds: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(measureCeilings({ threads: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(measureCeilings({ thread: 1 } as never)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});
