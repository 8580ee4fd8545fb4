import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { measureRates } from "../../bench/rates.js";

describe("measureRates", () => {
  test("tells how often each work is done in a second", async () => {
    let runs = 0;
    const wait = async () => {
      runs++;
      await setTimeout(4);
    };
    const [one, ten] = await measureRates(
      [
        { run: wait, times: 1 },
        { run: wait, times: 10 },
      ],
      0.05,
    );
    // A timer may be late, and a millisecond early.
    for (const [rate, times] of [
      [one, 1],
      [ten, 10],
    ] as const) {
      expect(rate?.perSecond).toBeGreaterThan(20 * times);
      expect(rate?.perSecond).toBeLessThan(334 * times);
      expect(rate?.samples).toBeGreaterThanOrEqual(5);
      expect(rate?.margin).toBeGreaterThan(0);
    }
    expect(runs).toBeGreaterThanOrEqual((one?.samples ?? 0) + (ten?.samples ?? 0));
  });

  test("rejects with the first error, and goes no further", async () => {
    let runs = 0;
    let later = 0;
    const failing = async () => {
      await setTimeout(1);
      // The first half of the time, at most 11 runs, is not measured.
      if (++runs === 15) throw new Error("run 15");
    };
    const counted = async () => {
      await setTimeout(1);
      later++;
    };
    const works = [failing, counted].map((run) => ({ run, times: 1 }));
    await expect(measureRates(works, 0.02)).rejects.toThrow("run 15");
    const before = later;
    await setTimeout(30);
    expect({ runs, later }).toEqual({ runs: 15, later: before });
  });
});
