import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { expertLoad } from "../../../lib/operators/noise/expert_load.js";
import { columnMeans } from "../../../lib/operators/statistics/column_means.js";
import { expertTotals } from "../../../lib/operators/statistics/expert_totals.js";
import { loadBalancingLoss } from "../../../lib/operators/statistics/load_balancing_loss.js";
import { routerStatistics } from "../../../lib/operators/statistics/router_statistics.js";
import { zLoss } from "../../../lib/operators/statistics/z_loss.js";
import { RouterStats } from "../../../lib/statistics/router_stats.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomRouting } from "../../../lib/testing/inputs/random_routing.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const badId = 1_000_000;

interface Batch {
  logits: number[][];
  ids: number[][];
  weights: number[][];
  groups: number[][];
  mask: number[];
}

function randomBatch(seed: number, tokens: number, experts: number, masked: number): Batch {
  const random = new Random(seed);
  const topK = random.integer(1, Math.min(experts, 4));
  const { ids, weights } = randomRouting(random, tokens, topK, experts, "some_dropped");
  const rows = <T>(count: number, row: (token: number) => T) => Array.from({ length: count }, (_, token) => row(token));
  return {
    logits: rows(tokens, () => [...random.normals(experts, 2)]),
    ids: rows(tokens, (token) => [...ids.subarray(token * topK, (token + 1) * topK)]),
    weights: rows(tokens, (token) => [...weights.subarray(token * topK, (token + 1) * topK)]),
    groups: rows(tokens, () => [random.integer(-1, 1)]),
    mask: rows(tokens, () => (random.uniform() < masked ? 0 : random.integer(1, 255))),
  };
}

/** The batch, with values in the masked rows that must have no effect. */
function poisoned({ logits, ids, weights, groups, mask }: Batch): Batch {
  const fill = (rows: number[][], value: number) =>
    rows.map((row, token) => (mask[token] === 0 ? row.map(() => value) : row));
  return {
    logits: fill(logits, Number.NaN),
    ids: fill(ids, badId),
    weights: fill(weights, Number.NaN),
    groups: fill(groups, badId),
    mask,
  };
}

/** The tokens among first .. end - 1 of the batch that count. */
function counted(batch: Batch, first = 0, end = batch.mask.length): Batch {
  const keep = <T>(rows: T[]) => rows.filter((_, token) => token >= first && token < end && batch.mask[token] !== 0);
  const { logits, ids, weights, groups, mask } = batch;
  return { logits: keep(logits), ids: keep(ids), weights: keep(weights), groups: keep(groups), mask: keep(mask) };
}

/** The batch's tensors; `shape` gives the widths, as the batch may have no rows. */
function tensors(device: Device, batch: Batch, shape: Batch) {
  const matrix = (rows: number[][], like: number[][]) =>
    device.tensor(Float32Array.from(rows.flat()), [rows.length, like[0]?.length ?? 1]);
  const integers = (rows: number[][], like: number[][]) =>
    device.tensor(Int32Array.from(rows.flat()), [rows.length, like[0]?.length ?? 1]);
  return {
    logits: matrix(batch.logits, shape.logits),
    ids: integers(batch.ids, shape.ids),
    weights: matrix(batch.weights, shape.weights),
    groups: integers(batch.groups, shape.groups),
    tokenMask: device.tensor(Uint8Array.from(batch.mask)),
  };
}

type Tensors = ReturnType<typeof tensors>;

/** Everything that a mask affects, without sequences. */
function results({ logits, ids, weights, groups }: Tensors, tokenMask: Tensor<"u8"> | undefined) {
  const { device } = logits;
  const [tokens, numExperts] = logits.shape as [number, number];
  using deviation = device.tensor(new Float32Array(tokens * numExperts).fill(0.5), [tokens, numExperts]);
  using load = device.tensor(numExperts % 2 === 0 ? [3, 5] : [3]);
  const options = { topK: 1, tokenMask };
  const grouped = { ...options, groups: { ids: groups, load } };
  const totals = expertTotals(ids, { numExperts, weights, tokenMask });
  const statistics = routerStatistics(logits, ids, { tokenMask });
  const outputs: Record<string, Tensor> = {
    tokens: totals.tokens,
    dropped: totals.dropped,
    importance: totals.weights,
    means: columnMeans(logits, { tokenMask }),
    squares: columnMeans(logits, { tokenMask, square: true }),
    load: expertLoad(logits, logits, deviation, options),
    zLoss: zLoss(logits, { tokenMask }),
    balance: loadBalancingLoss(logits, ids, { tokenMask }),
    balanceOfFirst: loadBalancingLoss(logits, ids, { tokenMask, choices: "first", scoring: "sigmoid" }),
    balancePerToken: loadBalancingLoss(logits, ids, { tokenMask, normalization: "tokens" }),
    meanEntropy: statistics.meanEntropy,
    maximumViolation: statistics.maximumViolation,
  };
  if (numExperts % 2 === 0) outputs.groupLoad = expertLoad(logits, logits, deviation, grouped);
  return Object.fromEntries(Object.entries(outputs).map(([key, tensor]) => [key, [...tensor.dataSync()]]));
}

const batches = fc.record({
  seed: fc.integer({ min: 0, max: 1e6 }),
  tokens: fc.integer({ min: 1, max: 150 }),
  experts: fc.integer({ min: 1, max: 40 }),
  masked: fc.constantFrom(0, 0.3, 0.9, 1),
});

describe.each(deviceNames)("token masks on %s", (name) => {
  const device = openForTests(name);

  test("results are as if masked tokens were absent, whatever their rows hold", () => {
    fc.assert(
      fc.property(batches, ({ seed, tokens, experts, masked }) => {
        const batch = randomBatch(seed, tokens, experts, masked);
        const padded = tensors(device(), poisoned(batch), batch);
        const dense = tensors(device(), counted(batch), batch);
        const expected = results(dense, undefined);
        for (const [key, values] of Object.entries(results(padded, padded.tokenMask))) {
          expect(relativeError(values, expected[key] as number[]), key).toBeLessThanOrEqual(2e-6);
        }
        device().synchronizeSync();
      }),
      { numRuns: 40 },
    );
  });

  test("the loss over sequences is the mean over those that have tokens", () => {
    fc.assert(
      fc.property(batches, fc.integer({ min: 1, max: 5 }), ({ seed, tokens, experts, masked }, sequences) => {
        const batch = randomBatch(seed, tokens * sequences, experts, masked);
        batch.mask.fill(0, 0, sequences > 1 ? tokens : 0);
        const padded = tensors(device(), poisoned(batch), batch);
        const { tokenMask } = padded;
        const losses: number[] = [];
        for (let sequence = 0; sequence < sequences; sequence++) {
          const part = counted(batch, sequence * tokens, (sequence + 1) * tokens);
          if (part.mask.length === 0) continue;
          const { logits, ids } = tensors(device(), part, batch);
          losses.push(loadBalancingLoss(logits, ids).dataSync()[0] as number);
        }
        const expected = losses.length === 0 ? 0 : losses.reduce((a, b) => a + b) / losses.length;
        const loss = loadBalancingLoss(padded.logits, padded.ids, { sequences, tokenMask });
        expect(relativeError(loss.dataSync(), [expected])).toBeLessThanOrEqual(2e-6);
        const totals = expertTotals(padded.ids, { numExperts: experts, sequences, tokenMask });
        const means = columnMeans(padded.logits, { sequences, tokenMask });
        const parts = Array.from({ length: sequences }, (_, sequence) => {
          const { logits, ids } = tensors(device(), counted(batch, sequence * tokens, (sequence + 1) * tokens), batch);
          return { ...expertTotals(ids, { numExperts: experts }), means: columnMeans(logits) };
        });
        expect([...totals.tokens.dataSync()]).toEqual(parts.flatMap((part) => [...part.tokens.dataSync()]));
        expect([...totals.dropped.dataSync()]).toEqual(parts.flatMap((part) => [...part.dropped.dataSync()]));
        const expectedMeans = parts.flatMap((part) => [...part.means.dataSync()]);
        expect(relativeError(means.dataSync(), expectedMeans)).toBeLessThanOrEqual(2e-6);
      }),
      { numRuns: 25 },
    );
  });

  test("the load-balancing loss is E * Σ f P over an attention mask", () => {
    const [sequences, length, experts] = [3, 7, 6];
    const lengths = [7, 2, 4];
    const batch = randomBatch(5, sequences * length, experts, 0);
    batch.mask = batch.mask.map((_, token) =>
      token % length < (lengths[Math.floor(token / length)] as number) ? 1 : 0,
    );
    const rows = counted(batch);
    const tokens = rows.mask.length;
    const probabilities = rows.logits.map((row) => {
      const exponentials = row.map((logit) => Math.exp(Math.fround(logit)));
      const sum = exponentials.reduce((a, b) => a + b);
      return exponentials.map((exponential) => exponential / sum);
    });
    let expected = 0;
    for (let expert = 0; expert < experts; expert++) {
      const share = rows.ids.flat().filter((id) => id === expert).length / tokens;
      expected += share * (probabilities.reduce((sum, row) => sum + (row[expert] as number), 0) / tokens);
    }
    const { logits, ids, tokenMask } = tensors(device(), poisoned(batch), batch);
    const loss = loadBalancingLoss(logits, ids, { normalization: "tokens", tokenMask });
    expect(relativeError(loss.dataSync(), [experts * expected])).toBeLessThanOrEqual(2e-6);
  });

  test("if all tokens are masked, everything is 0", () => {
    const batch = randomBatch(1, 70, 8, 1);
    const padded = tensors(device(), poisoned(batch), batch);
    for (const [key, values] of Object.entries(results(padded, padded.tokenMask))) {
      expect(values, key).toEqual(values.map(() => 0));
    }
    device().synchronizeSync();
  });

  test("an id out of range is reported only if its token counts", () => {
    const tokenMask = device().tensor(Uint8Array.of(0, 1, 0));
    const ids = device().tensor(Int32Array.of(9, 1, 1, 0, -7, 8), [3, 2]);
    expect([...expertTotals(ids, { numExperts: 2, tokenMask }).tokens.dataSync()]).toEqual([1, 1]);
    expertTotals(ids, { numExperts: 2, tokenMask: device().tensor(Uint8Array.of(0, 1, 1)) });
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", /ids\[2, 0\]: expected -1 or an expert .*got -7/);
  });

  test("router stats add up the tokens that count", async () => {
    using stats = new RouterStats(device(), { numExperts: 6, windows: 2 });
    using dense = new RouterStats(device(), { numExperts: 6, windows: 2 });
    for (let call = 0; call < 5; call++) {
      const batch = randomBatch(call, 10 + call, 6, [0, 0.5, 1][call % 3] as number);
      const padded = tensors(device(), poisoned(batch), batch);
      stats.record(padded.logits, padded, { tokenMask: padded.tokenMask });
      const { logits, ids, weights } = tensors(device(), counted(batch), batch);
      dense.record(logits, { ids, weights });
    }
    const [history, expected] = await Promise.all([stats.read(), dense.read()]);
    for (const key of ["calls", "tokens", "choices", "dropped", "tokensPerExpert"] as const) {
      expect(history[key], key).toEqual(expected[key]);
    }
    expect(history.windows.map(({ tokens, choices }) => [tokens, choices])).toEqual(
      expected.windows.map(({ tokens, choices }) => [tokens, choices]),
    );
    expect(relativeError([history.meanEntropy], [expected.meanEntropy])).toBeLessThanOrEqual(1e-6);
    expect(relativeError(history.importance, expected.importance)).toBeLessThanOrEqual(1e-6);
  });

  test("bad masks", () => {
    const logits = device().zeros([4, 2], "f32");
    const ids = device().zeros([4, 1], "i32");
    using stats = new RouterStats(device(), { numExperts: 2 });
    const calls: ((tokenMask: Tensor<"u8">) => unknown)[] = [
      (tokenMask) => zLoss(logits, { tokenMask }),
      (tokenMask) => columnMeans(logits, { tokenMask }),
      (tokenMask) => loadBalancingLoss(logits, ids, { tokenMask }),
      (tokenMask) => expertTotals(ids, { numExperts: 2, tokenMask }),
      (tokenMask) => routerStatistics(logits, ids, { tokenMask }),
      (tokenMask) => expertLoad(logits, logits, logits, { topK: 1, tokenMask }),
      (tokenMask) => stats.record(logits, { ids }, { tokenMask }),
    ];
    for (const call of calls) {
      const short = device().zeros([3], "u8");
      expectError(() => call(short), "SHAPE_MISMATCH", /tokenMask: expected shape \[4\], got \[3\]/);
      const matrix = device().zeros([2, 2], "u8");
      expectError(() => call(matrix), "SHAPE_MISMATCH", /tokenMask: expected shape \[4\], got \[2, 2\]/);
      const floats = device().zeros([4], "f32") as unknown as Tensor<"u8">;
      expectError(() => call(floats), "UNSUPPORTED_DTYPE", /tokenMask: expected dtype u8, got f32/);
      const array = [1, 1, 0, 0] as unknown as Tensor<"u8">;
      expectError(() => call(array), "INVALID_ARGUMENT", /tokenMask: expected a Tensor/);
    }
  });
});
