import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { planRotation, rotationText } from "../../bench/peers/rotation.js";
import { bytesBeyondCaches, lastLevelCacheBytes } from "../../lib/bench/machine.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";

describe("the copies of a layer", () => {
  const mebibyte = 2 ** 20;
  /** 8 experts of 3 * 2^16 weights: 3 MiB in bf16. */
  const config = { hiddenSize: 256, intermediateSize: 256, numExperts: 8, topK: 2 };
  const plan = (cacheBytes: number | undefined, availableBytes: number, contenders = 2) =>
    planRotation(config, "bf16", contenders, { cacheBytes, availableBytes });

  test("are twice as large as the last-level cache", () => {
    const rotation = plan(5 * mebibyte, 1000 * mebibyte);
    expect(rotation).toEqual({ copies: 5, bytes: 15 * mebibyte, wanted: 10 * mebibyte }); // 4, made odd
    expect(rotationText(rotation)).toBe("calls rotate over 5 copies of the layer, 15.0 MiB, more than caches keep");
    expect(plan(1.5 * mebibyte, 1000 * mebibyte)).toEqual({ copies: 1, bytes: 3 * mebibyte, wanted: 3 * mebibyte });
    expect(planRotation(config, "f32", 2, { cacheBytes: 5 * mebibyte, availableBytes: 1e9 }).copies).toBe(3);
  });

  test("are as many as memory holds, which the report says", () => {
    // 60 % of 42 MiB hold 25 MiB: 8 copies, 4 for each of 2 contenders.
    const rotation = plan(50 * mebibyte, 42 * mebibyte);
    expect(rotation).toMatchObject({ copies: 3, bytes: 9 * mebibyte });
    expect(rotationText(rotation)).toBe(
      "calls rotate over 3 copies of the layer, 9.00 MiB, as memory holds no more; below 100 MiB weights may come from a cache",
    );
    expect(plan(50 * mebibyte, mebibyte).copies).toBe(1);
  });

  test("are at most 33, which the report says", () => {
    const rotation = plan(100 * mebibyte, 10000 * mebibyte);
    expect(rotation).toMatchObject({ copies: 33, wanted: 200 * mebibyte });
    expect(rotationText(rotation)).toMatch(/over 33 copies .*, as more are not made; below 200 MiB weights may/);
  });

  test("are sized by a guess where the system does not tell its caches", () => {
    const caches = lastLevelCacheBytes("/no/such/folder");
    expect(caches).toBeUndefined();
    expect(planRotation(config, "bf16", 1, { availableBytes: 1e10 }).wanted).toBeGreaterThan(0);
  });
});

test("copies for operators and layers are twice as large as the last-level cache, and at least 256 MiB", () => {
  const mebibyte = 2 ** 20;
  expect(bytesBeyondCaches(300 * mebibyte)).toBe(600 * mebibyte);
  expect(bytesBeyondCaches(32 * mebibyte)).toBe(256 * mebibyte);
  expect(bytesBeyondCaches()).toBeGreaterThanOrEqual(256 * mebibyte);
});

test("the last-level cache is the largest", () => {
  using folder = temporaryDirectory();
  for (const [index, size] of ["48K", "2048K", "307200K"].entries()) {
    mkdirSync(join(folder.path, `index${index}`));
    writeFileSync(join(folder.path, `index${index}`, "size"), `${size}\n`);
  }
  mkdirSync(join(folder.path, "power"));
  expect(lastLevelCacheBytes(folder.path)).toBe(300 * 2 ** 20);
});
