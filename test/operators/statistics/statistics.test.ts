import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { accumulate, readTotals } from "../../../lib/operators/statistics/accumulate.js";
import { columnMeans } from "../../../lib/operators/statistics/column_means.js";
import { expertTotals } from "../../../lib/operators/statistics/expert_totals.js";
import { cvSquared, maximumViolation } from "../../../lib/operators/statistics/imbalance.js";
import { loadBalancingLoss } from "../../../lib/operators/statistics/load_balancing_loss.js";
import { routerScores } from "../../../lib/operators/statistics/router_scores.js";
import { updateSelectionBias } from "../../../lib/operators/statistics/update_selection_bias.js";
import { zLoss } from "../../../lib/operators/statistics/z_loss.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomRouting } from "../../../lib/testing/inputs/random_routing.js";
import { deviceNames, openForTests } from "../../support/devices.js";

describe.each(deviceNames)("the router's statistics on %s", (name) => {
  const device = openForTests(name);
  const scalar = (tensor: { dataSync(): ArrayLike<number> }) => tensor.dataSync()[0] as number;
  const matrix = (rows: number[][]) => device().tensor(rows);
  const idsOf = (rows: number[][]) =>
    device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 1]);

  test("tokens, drops and importance of an example", () => {
    const ids = idsOf([
      [0, 2],
      [2, -1],
      [1, 2],
      [-1, -1],
    ]);
    const weights = matrix([
      [1, 2],
      [4, 8],
      [16, 32],
      [64, 128],
    ]);
    const batch = expertTotals(ids, { numExperts: 3, weights });
    expect(batch.tokens.toArraySync()).toEqual([[1, 1, 3]]);
    expect(batch.dropped.toArraySync()).toEqual([3]);
    expect(batch.weights.toArraySync()).toEqual([[1, 16, 38]]);
    const sequences = expertTotals(ids, { numExperts: 3, sequences: 2, choices: 1 });
    expect(sequences.tokens.toArraySync()).toEqual([
      [1, 0, 1],
      [0, 1, 0],
    ]);
    expect(sequences.dropped.toArraySync()).toEqual([0, 1]);
  });

  test("an even router has losses of 1, ln² E and 0, and entropy ln E", () => {
    const logits = matrix(Array.from({ length: 8 }, () => [0, 0, 0, 0]));
    const ids = idsOf(Array.from({ length: 8 }, (_, token) => [token % 4, (token + 1) % 4]));
    expect(scalar(loadBalancingLoss(logits, ids))).toBeCloseTo(1, 6);
    expect(scalar(loadBalancingLoss(logits, ids, { scoring: "sigmoid" }))).toBeCloseTo(1, 6);
    expect(scalar(loadBalancingLoss(logits, ids, { choices: "first" }))).toBeCloseTo(1, 6);
    expect(scalar(loadBalancingLoss(logits, ids, { normalization: "tokens" }))).toBeCloseTo(2, 6);
    expect(scalar(zLoss(logits))).toBeCloseTo(Math.log(4) ** 2, 6);
    const { tokens } = expertTotals(ids, { numExperts: 4 });
    expect(scalar(cvSquared(tokens))).toBe(0);
    expect(scalar(maximumViolation(tokens))).toBe(0);
    for (const entropy of routerScores(logits).entropy.dataSync()) expect(entropy).toBeCloseTo(Math.log(4), 6);
  });

  test("a router that sends all to one expert has a loss of E", () => {
    const logits = matrix(Array.from({ length: 6 }, () => [0, 100, 0, 0]));
    const { ids } = gating(logits, { topK: 1 });
    expect(scalar(loadBalancingLoss(logits, ids))).toBeCloseTo(4, 6);
    const { tokens } = expertTotals(ids, { numExperts: 4 });
    expect(scalar(cvSquared(tokens))).toBeCloseTo(3, 6);
    expect(scalar(cvSquared(tokens, { unbiased: true }))).toBeCloseTo(4, 6);
    expect(scalar(maximumViolation(tokens))).toBe(3);
  });

  test("the loss over sequences is the mean of their losses", () => {
    const random = new Random(7);
    const logits = device().tensor(random.normals(60 * 5), [60, 5]);
    const { ids } = gating(logits, { topK: 2 });
    const whole = scalar(loadBalancingLoss(logits, ids, { sequences: 4 }));
    const parts = [0, 15, 30, 45].map((begin) =>
      scalar(loadBalancingLoss(logits.rows(begin, begin + 15), ids.rows(begin, begin + 15))),
    );
    expect(whole).toBeCloseTo(parts.reduce((a, b) => a + b) / 4, 6);
  });

  test("no tokens: counts, means and losses of 0", () => {
    const logits = device().zeros([0, 4], "f32");
    const ids = device().zeros([0, 2], "i32");
    const { tokens, dropped } = expertTotals(ids, { numExperts: 4, sequences: 2 });
    expect([...tokens.dataSync(), ...dropped.dataSync()]).toEqual(new Array(10).fill(0));
    expect(scalar(loadBalancingLoss(logits, ids, { sequences: 3 }))).toBe(0);
    expect(scalar(zLoss(logits))).toBe(0);
    expect([...columnMeans(logits).dataSync()]).toEqual([0, 0, 0, 0]);
    expect(scalar(cvSquared(tokens))).toBe(0);
    expect(scalar(maximumViolation(tokens))).toBe(0);
    expect(scalar(cvSquared(device().zeros([0], "f32")))).toBe(0);
  });

  test("rows of NaN and infinities", () => {
    const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
    const { scores, logSumExp, entropy } = routerScores(
      matrix([
        [nan, 0, 0, -infinity],
        [nan, nan, -infinity, nan],
        [infinity, 5, infinity, nan],
      ]),
    );
    expect(scores.toArraySync()).toEqual([
      [0, 0.5, 0.5, 0],
      [0, 0, 0, 0],
      [0.5, 0, 0.5, 0],
    ]);
    const [first, ...others] = logSumExp.dataSync();
    expect(first).toBeCloseTo(Math.LN2, 6);
    expect(others).toEqual([-infinity, infinity]);
    expect([...entropy.dataSync()].map((value) => Math.fround(value))).toEqual(
      [Math.LN2, 0, Math.LN2].map(Math.fround),
    );
    expect(scalar(zLoss(matrix([[nan, nan]])))).toBe(infinity);
  });

  test("the selection bias moves towards the mean, by exact comparison", () => {
    const bias = device().tensor([0, 0.5, -0.5]);
    const even = device().tensor(Int32Array.of(2 ** 30, 2 ** 30 + 1, 2 ** 30 - 1), [1, 3]);
    const updated = updateSelectionBias(bias, even, { rate: 0.25 });
    expect([...updated.dataSync()]).toEqual([0, 0.25, -0.25]);
    const largest = device().tensor(Int32Array.from({ length: 12 }, (_, index) => (index % 3 === 0 ? 1 : 2 ** 31 - 1)));
    updateSelectionBias(bias, largest.reshape([4, 3]), { rate: 0.25, out: bias });
    expect([...bias.dataSync()]).toEqual([0.25, 0.25, -0.75]);
  });

  test("any routing: counts add up, importance is the sum of the weights, in every sequence", () => {
    const problem = fc.record({
      sequences: fc.integer({ min: 1, max: 4 }),
      length: fc.integer({ min: 0, max: 90 }),
      experts: fc.integer({ min: 1, max: 70 }),
      seed: fc.integer({ min: 0 }),
      spread: fc.constantFrom("even" as const, "uneven" as const, "some_dropped" as const, "one_expert" as const),
    });
    fc.assert(
      fc.property(problem, ({ sequences, length, experts, seed, spread }) => {
        const random = new Random(seed);
        const tokenCount = sequences * length;
        const topK = random.integer(1, Math.min(experts, 6));
        const routing = randomRouting(random, tokenCount, topK, experts, spread);
        using ids = device().tensor(routing.ids, [tokenCount, topK]);
        using weights = device().tensor(routing.weights, [tokenCount, topK]);
        const totals = expertTotals(ids, { numExperts: experts, sequences, weights });
        const [tokens, dropped, sums] = [totals.tokens, totals.dropped, totals.weights].map((tensor) =>
          tensor.dataSync(),
        );
        for (let sequence = 0; sequence < sequences; sequence++) {
          const slots = [sequence * length * topK, (sequence + 1) * length * topK];
          const own = routing.ids.slice(...slots);
          const ownWeights = routing.weights.slice(...slots);
          expect(dropped?.[sequence]).toBe(own.filter((id) => id === -1).length);
          for (let expert = 0; expert < experts; expert++) {
            const cell = sequence * experts + expert;
            expect(tokens?.[cell]).toBe(own.filter((id) => id === expert).length);
            const sum = ownWeights.reduce((all, weight, slot) => (own[slot] === expert ? all + weight : all), 0);
            expect(Math.abs((sums?.[cell] as number) - sum)).toBeLessThanOrEqual(1e-6 * sum);
          }
        }
        for (const tensor of Object.values(totals)) tensor.dispose();
      }),
      { numRuns: 40 },
    );
  });

  test("totals of many calls are exact", async () => {
    using counts = device().zeros([3, 2], "i32");
    using sums = device().zeros([2, 2], "f32");
    const added = device().tensor(Int32Array.of(2 ** 31 - 1, -(2 ** 31), 1));
    const tenths = device().tensor([0.1, 1]);
    for (let call = 0; call < 1000; call++) {
      accumulate(counts, added);
      accumulate(sums, tenths);
    }
    expect([...(await readTotals(counts))]).toEqual([1000 * (2 ** 31 - 1), -1000 * 2 ** 31, 1000]);
    const [tenth, one] = await readTotals(sums);
    expect(Math.abs((tenth as number) - 1000 * Math.fround(0.1))).toBeLessThan(1e-11);
    expect(one).toBe(1000);
    using twice = device().zeros([3, 2], "i32");
    accumulate(twice, counts);
    accumulate(twice, counts);
    expect([...(await readTotals(twice))]).toEqual([2000 * (2 ** 31 - 1), -2000 * 2 ** 31, 2000]);
  });
});

test("the same bits with any number of threads", () => {
  const random = new Random(11);
  const values = random.normals(3000 * 40, 3);
  const results = [1, 2, 5].map((threads) => {
    using device = openDevice("cpu", { threads, poison: true });
    const logits = device.tensor(values, [3000, 40]);
    const { ids, weights } = gating(logits, { topK: 4 });
    const totals = expertTotals(ids, { numExperts: 40, sequences: 2, weights });
    const outputs = [totals.weights, columnMeans(logits), loadBalancingLoss(logits, ids), zLoss(logits)];
    return outputs.map((tensor) => [...tensor.dataSync()]);
  });
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
});
