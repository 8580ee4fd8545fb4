import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/index.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerStatistics } from "../../lib/operators/statistics/router_statistics.js";
import { RouterStats } from "../../lib/statistics/router_stats.js";
import { WindowTotals } from "../../lib/statistics/window_totals.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomRouting } from "../../lib/testing/inputs/random_routing.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe.each(deviceNames)("router stats on %s", (name) => {
  const device = openForTests(name);

  test("statistics of one batch", () => {
    const logits = device().tensor(new Float32Array(6 * 4), [6, 4]);
    const ids = device().tensor(Int32Array.of(0, 1, 0, 2, 0, -1, 1, 2, -1, -1, 0, 1), [6, 2]);
    const { tokens, dropped, meanEntropy, maximumViolation } = routerStatistics(logits, ids);
    expect(tokens.toArraySync()).toEqual([[4, 3, 2, 0]]);
    expect(dropped.toArraySync()).toEqual([3]);
    expect(meanEntropy.dataSync()[0]).toBeCloseTo(Math.log(4), 6);
    expect(maximumViolation.dataSync()[0]).toBeCloseTo(4 / 2.25 - 1, 6);
    const sequences = routerStatistics(logits, ids, { sequences: 3 });
    expect(sequences.dropped.toArraySync()).toEqual([0, 1, 2]);
    expect(() => routerStatistics(logits, ids, { sequences: 4 })).toThrow(/sequences: expected a divisor of 6/);
  });

  test("many calls add up, in windows that are merged when there are too many", async () => {
    const experts = 7;
    using stats = new RouterStats(device(), { numExperts: experts, windows: 4 });
    const random = new Random(3);
    const calls = Array.from({ length: 11 }, (_, call) => {
      const tokens = call === 5 ? 0 : random.integer(1, 40);
      const { ids, weights } = randomRouting(random, tokens, 2, experts, "some_dropped");
      return { tokens, ids, weights, logits: random.normals(tokens * experts) };
    });
    for (const { tokens, ids, weights, logits } of calls) {
      using idTensor = device().tensor(ids, [tokens, 2]);
      using weightTensor = device().tensor(weights, [tokens, 2]);
      using logitTensor = device().tensor(logits, [tokens, experts]);
      stats.record(logitTensor, { ids: idTensor, weights: weightTensor });
    }
    const history = await stats.read();
    const countsOf = (part: typeof calls) =>
      Array.from({ length: experts }, (_, expert) =>
        part.reduce((sum, { ids }) => sum + ids.filter((id) => id === expert).length, 0),
      );
    expect(history.windows.map((window) => window.calls)).toEqual([4, 4, 3]);
    expect(history.windows.map((window) => window.tokensPerExpert)).toEqual(
      [calls.slice(0, 4), calls.slice(4, 8), calls.slice(8)].map(countsOf),
    );
    expect(history.tokensPerExpert).toEqual(countsOf(calls));
    const tokens = calls.reduce((sum, call) => sum + call.tokens, 0);
    expect(history).toMatchObject({ calls: 11, tokens, choices: 2 * tokens });
    expect(history.dropped).toBe(calls.reduce((sum, { ids }) => sum + ids.filter((id) => id < 0).length, 0));
    const mean = (2 * tokens - history.dropped) / experts;
    expect(history.maximumViolation).toBeCloseTo(Math.max(...history.tokensPerExpert) / mean - 1, 10);

    const importance = Array.from({ length: experts }, (_, expert) =>
      calls
        .flatMap(({ ids, weights }) => [...weights].filter((_, slot) => ids[slot] === expert))
        .reduce((sum, weight) => sum + weight, 0),
    );
    for (const [expert, sum] of importance.entries()) expect(history.importance[expert]).toBeCloseTo(sum, 4);
    const all = Float32Array.from(calls.flatMap(({ logits }) => [...logits]));
    const logits = device().tensor(all, [tokens, experts]);
    const { meanEntropy } = routerStatistics(logits, gating(logits, { topK: 1 }).ids);
    expect(history.meanEntropy).toBeCloseTo(meanEntropy.dataSync()[0] as number, 6);
  });

  test("reading waits only for what was recorded before, and recording continues", async () => {
    using stats = new RouterStats(device(), { numExperts: 2 });
    const logits = device().zeros([1, 2], "f32");
    const ids = device().zeros([1, 1], "i32");
    expect(await stats.read()).toMatchObject({
      calls: 0,
      tokens: 0,
      tokensPerExpert: [0, 0],
      meanEntropy: 0,
      windows: [],
    });
    stats.record(logits, { ids });
    const first = stats.read();
    stats.record(logits, { ids });
    expect((await first).tokensPerExpert).toEqual([1, 0]);
    expect((await stats.read()).tokensPerExpert).toEqual([2, 0]);
  });

  test("bad input", async () => {
    const invalid = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
    invalid(() => new RouterStats(device(), { numExperts: 0 }), /numExperts: expected an integer from 1/);
    invalid(() => new RouterStats(device(), { numExperts: 4, windows: 3 }), /windows: expected an even number, got 3/);
    invalid(() => new RouterStats(undefined as never, { numExperts: 4 }), /device: expected a Device/);
    invalid(() => new RouterStats(device(), undefined as never), /options: expected/);
    const stats = new RouterStats(device(), { numExperts: 4 });
    const logits = device().zeros([3, 4], "f32");
    const ids = device().zeros([3, 2], "i32");
    const mismatch = (call: () => unknown, message: RegExp) => expectError(call, "SHAPE_MISMATCH", message);
    mismatch(
      () => stats.record(device().zeros([3, 5], "f32"), { ids }),
      /logits: expected shape \[T, 4\], got \[3, 5\]/,
    );
    mismatch(
      () => stats.record(logits, { ids: ids.rows(0, 2) }),
      /routing\.ids: expected shape \[3, k\], got \[2, 2\]/,
    );
    mismatch(() => stats.record(logits, { ids, weights: logits }), /routing\.weights: expected shape \[3, 2\]/);
    expect((await stats.read()).calls).toBe(0);
    stats.record(logits, { ids: device().tensor(Int32Array.of(0, 1, 2, 9, 3, 3), [3, 2]) });
    await expectRejection(stats.read(), "ID_OUT_OF_RANGE", /ids\[1, 1\]: .*got 9/);
    expect(await stats.read()).toMatchObject({ dropped: 1, tokensPerExpert: [1, 1, 1, 2] });
    stats.dispose();
    stats.dispose();
    expectError(() => stats.record(logits, { ids }), "DISPOSED", /router stats: used after dispose/);
    await expectRejection(stats.read(), "DISPOSED", /router stats/);
  });
});

test("more windows are merged than a call can have arguments", () => {
  using device = openDevice("cpu");
  const windows = 2 ** 18;
  const { add } = WindowTotals.prototype;
  WindowTotals.prototype.add = () => {};
  try {
    using stats = new RouterStats(device, { numExperts: 1, windows });
    const logits = device.zeros([0, 1], "f32");
    const routing = { ids: device.zeros([0, 1], "i32") };
    for (let call = 0; call <= windows; call++) stats.record(logits, routing);
    expect(inspect(stats)).toContain(`calls: ${windows + 1}`);
  } finally {
    WindowTotals.prototype.add = add;
  }
});
