import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { measure } from "../../bench/measure.js";

test("times asynchronous calls from start to finish", async () => {
  let calls = 0;
  const { median, lowerQuartile, upperQuartile, samples } = await measure(async () => {
    calls++;
    await sleep(10);
  }, 0.2);
  expect(lowerQuartile).toBeLessThanOrEqual(median);
  expect(median).toBeLessThanOrEqual(upperQuartile);
  expect(median).toBeGreaterThan(0.009);
  expect(samples).toBeGreaterThanOrEqual(5);
  expect(calls).toBeGreaterThan(samples);
});

test("a call that fails ends the measurement with its error", async () => {
  const failure = new Error("no such device");
  await expect(measure(() => Promise.reject(failure), 0.2)).rejects.toBe(failure);
});
