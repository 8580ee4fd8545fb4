import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { inTurns, ratios, summarize, timeCalls } from "../../lib/bench/measure.js";
import { openDevice } from "../../lib/devices.js";

test("quartiles are interpolated", () => {
  expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, lowerQuartile: 1.75, upperQuartile: 3.25, samples: 4 });
  expect(summarize([7])).toEqual({ median: 7, lowerQuartile: 7, upperQuartile: 7, samples: 1 });
});

test("ratios are taken round by round", () => {
  expect(ratios([2, 40, 3], [1, 10, 1])).toMatchObject({ median: 3, samples: 3 });
});

test("contenders take turns, in reverse order in every other round", async () => {
  const order: string[] = [];
  const done: number[] = [];
  const turn = (name: string) => async () => {
    await sleep(1);
    order.push(name);
    return `${name}${order.length}`;
  };
  const returned = await inTurns([turn("a"), turn("b")], 3, (count) => done.push(count));
  expect(order.join("")).toBe("abbaab");
  expect(done).toEqual([1, 2, 3, 4, 5, 6]);
  expect(returned).toEqual([
    ["a1", "a4", "a5"],
    ["b2", "b3", "b6"],
  ]);
});

test("the time of a call, of the device and until results are ready are apart", async () => {
  using device = openDevice("cpu", { threads: 1 });
  const [columns, rows] = [256, 256];
  using values = device.tensor(new Float32Array(columns * rows).fill(0.5));
  using total = device.zeros([1], "f32");
  let calls = 0;
  const enqueue = (): void => {
    calls++;
    device.backend.sumOfSquares({ values: values.handle, total: total.handle });
  };
  const times = await timeCalls(device, { enqueue }, 0.02, 3);
  expect(calls).toBe(3 * times.length);
  for (const { total: whole, call, device: worked } of times) {
    expect(call).toBeGreaterThan(0);
    expect(whole).toBeGreaterThan(call);
    expect(worked).toBeGreaterThan(0);
    expect(worked).toBeLessThan(whole);
  }
  expect(await timeCalls(device, { enqueue }, 0, 1)).toHaveLength(1);
});

test("on reference the call is all there is", async () => {
  using device = openDevice("reference");
  const [times] = await timeCalls(device, { enqueue: () => {} }, 0, 1);
  expect(times?.device).toBeNull();
  expect(times?.call).toBeGreaterThanOrEqual(0);
});

test("a call that fails ends the measurement with its error", async () => {
  using device = openDevice("reference");
  const enqueue = () => {
    throw new Error("no such device");
  };
  await expect(timeCalls(device, { enqueue }, 0.2, 1)).rejects.toThrow("no such device");
});
