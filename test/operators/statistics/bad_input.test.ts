import { describe, expect, test } from "vitest";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { accumulate, readTotals } from "../../../lib/operators/statistics/accumulate.js";
import { columnMeans } from "../../../lib/operators/statistics/column_means.js";
import { expertTotals } from "../../../lib/operators/statistics/expert_totals.js";
import { cvSquared, maximumViolation } from "../../../lib/operators/statistics/imbalance.js";
import { loadBalancingLoss } from "../../../lib/operators/statistics/load_balancing_loss.js";
import { routerScores } from "../../../lib/operators/statistics/router_scores.js";
import { updateSelectionBias } from "../../../lib/operators/statistics/update_selection_bias.js";
import { zLoss } from "../../../lib/operators/statistics/z_loss.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";

/** What a caller without types may pass. */
// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
type Anything = any;

describe.each(deviceNames)("bad arguments of the router's statistics on %s", (name) => {
  const device = openForTests(name);
  const floats = (...shape: number[]): Tensor<"f32"> => device().zeros(shape, "f32");
  const integers = (...shape: number[]): Tensor<"i32"> => device().zeros(shape, "i32");
  const invalid = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
  const mismatch = (call: () => unknown, message: RegExp) => expectError(call, "SHAPE_MISMATCH", message);
  const unsupported = (call: () => unknown, message: RegExp) => expectError(call, "UNSUPPORTED_DTYPE", message);

  test("options", () => {
    const totals = (options: object) => () => expertTotals(integers(6, 2), { numExperts: 4, ...options });
    invalid(totals({ numExperts: 0 }), /numExperts: expected an integer from 1/);
    invalid(totals({ numExperts: undefined }), /numExperts: .*got undefined/);
    invalid(totals({ sequences: 0 }), /sequences: expected an integer >= 1, got 0/);
    invalid(totals({ sequences: 4 }), /sequences: expected a divisor of 6 tokens, got 4/);
    invalid(totals({ choices: 3 }), /choices: expected an integer from 0 to 2, got 3/);
    invalid(() => expertTotals(integers(6, 2), undefined as Anything), /options: expected/);
    const out = { tokens: integers(1, 4), dropped: integers(1) };
    invalid(totals({ out: { ...out, weights: floats(1, 4) } }), /^out\.weights requires weights/);
    invalid(totals({ weights: floats(6, 2), out }), /^out\.weights: expected a Tensor, got undefined/);
    invalid(
      () => routerScores(floats(2, 3), { scoring: "none" as Anything }),
      /scoring: expected one of "softmax", "s/,
    );
    invalid(() => routerScores(floats(2, 3), { normalize: 1 as Anything }), /normalize: expected a boolean, got 1/);
    invalid(() => columnMeans(floats(5, 3), { sequences: 2 }), /sequences: expected a divisor of 5/);
    invalid(() => columnMeans(floats(5, 3), { square: "x" as Anything }), /square: expected a boolean, got "x"/);
    const loss = (options: object) => () => loadBalancingLoss(floats(6, 4), integers(6, 2), options);
    invalid(loss({ scoring: "tanh" }), /scoring: expected one of/);
    invalid(loss({ sequences: 5 }), /sequences: expected a divisor of 6/);
    invalid(loss({ choices: 2 }), /choices: expected one of "all", "first", got 2/);
    invalid(loss({ normalization: "none" }), /normalization: expected one of "choices", "tokens"/);
    invalid(() => loadBalancingLoss(floats(6, 4), integers(6, 0)), /ids: expected at least one choice/);
    invalid(() => cvSquared(floats(3), { epsilon: -1 }), /epsilon: expected a finite number >= 0, got -1/);
    invalid(() => cvSquared(floats(3), { unbiased: 1 as Anything }), /unbiased: expected a boolean, got 1/);
    const rate = Number.NaN;
    invalid(() => updateSelectionBias(floats(3), integers(1, 3), { rate }), /rate: expected a finite number, got NaN/);
  });

  test("ranks, shapes and dtypes", () => {
    mismatch(() => expertTotals(integers(4), { numExperts: 2 }), /ids: expected shape \[T, k\], got \[4\]/);
    mismatch(() => expertTotals(integers(4, 2), { numExperts: 2, weights: floats(4, 1) }), /weights: expected shape/);
    mismatch(() => routerScores(floats(4)), /logits: expected shape \[T, E\], got \[4\]/);
    mismatch(() => zLoss(floats(4)), /logits: expected shape \[T, E\]/);
    mismatch(() => columnMeans(floats(4)), /values: expected shape \[T, N\]/);
    mismatch(() => columnMeans(floats(4, 2), { out: floats(2, 2) }), /out: expected shape \[1, 2\], got \[2, 2\]/);
    mismatch(() => loadBalancingLoss(floats(4, 2), integers(3, 1)), /ids: expected shape \[4, k\], got \[3, 1\]/);
    mismatch(() => updateSelectionBias(floats(3), integers(1, 4)), /tokens: expected shape \[S, 3\], got \[1, 4\]/);
    mismatch(() => accumulate(integers(3), integers(3)), /totals: expected shape \[N, 2\], got \[3\]/);
    mismatch(() => accumulate(integers(3, 2), integers(4)), /values: expected shape \[3\], got \[4\]/);
    mismatch(() => accumulate(integers(3, 2), integers(4, 2)), /values: expected shape \[3, 2\], got \[4, 2\]/);
    unsupported(() => expertTotals(floats(4, 2) as Anything, { numExperts: 2 }), /ids: expected dtype i32, got f32/);
    unsupported(() => zLoss(integers(4, 2) as Anything), /logits: expected dtype f32, f16 or bf16, got i32/);
    unsupported(() => cvSquared(device().zeros([3], "u8") as Anything), /values: expected dtype f32 or i32.*got u8/);
    invalid(() => accumulate(integers(3, 2), integers(3), { scale: 2 }), /scale: expected 1 for integers, got 2/);
    invalid(() => accumulate(floats(3, 2), floats(3), { scale: Infinity }), /scale: expected a finite number/);
    unsupported(() => accumulate(integers(3, 2), floats(3) as Anything), /values: expected dtype i32, got f32/);
    unsupported(() => accumulate(device().zeros([3, 2], "u8") as Anything, integers(3)), /totals: expected dtype/);
  });

  test("not a tensor, disposed of, or on another device", async () => {
    for (const value of [undefined, null, 3, [[1]]] as Anything[]) {
      invalid(() => expertTotals(value, { numExperts: 2 }), /ids: expected a Tensor/);
      invalid(() => maximumViolation(value), /values: expected a Tensor/);
      invalid(() => accumulate(integers(1, 2), value), /values: expected a Tensor/);
    }
    await expectRejection(readTotals(undefined as Anything), "INVALID_ARGUMENT", /totals: expected a Tensor/);
    const disposed = floats(2, 2);
    disposed.dispose();
    expectError(() => routerScores(disposed), "DISPOSED", /used after dispose/);
    expectError(() => zLoss(disposed), "DISPOSED", /used after dispose/);
    using other = openDevice(name);
    const foreign = other.zeros([4, 2], "i32");
    expectError(
      () => loadBalancingLoss(floats(4, 3), foreign),
      "DEVICE_MISMATCH",
      /ids: expected a tensor on the same/,
    );
    expectError(() => accumulate(integers(4, 2), foreign), "DEVICE_MISMATCH", /values/);
  });

  test("outputs that overlap an input or each other", () => {
    const overlap = (call: () => unknown) => invalid(call, /expected memory of its own, got .*overlaps/);
    const values = floats(6, 2);
    overlap(() => columnMeans(values.rows(0, 4), { out: values.rows(3, 4) }));
    overlap(() => routerScores(values, { out: { scores: values, logSumExp: floats(6), entropy: floats(6) } }));
    const counts = integers(6, 2);
    const view = counts.rows(1, 2);
    overlap(() => expertTotals(counts, { numExperts: 2, out: { tokens: view, dropped: integers(1) } }));
    overlap(() => accumulate(counts, counts.rows(0, 3).reshape([6])));
    const bias = floats(4);
    overlap(() => updateSelectionBias(bias.rows(0, 3), integers(1, 3), { out: bias.rows(1, 4) }));
  });

  test("ids out of range count as dropped, and are reported at the next wait", () => {
    for (const bad of [4, -2, 2 ** 31 - 1]) {
      const ids = device().tensor(Int32Array.of(0, 1, 3, bad), [2, 2]);
      const { tokens, dropped } = expertTotals(ids, { numExperts: 4 });
      const message = new RegExp(`expertTotals: ids\\[1, 1\\]: expected -1 or an expert from 0 to 3, got ${bad}`);
      expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", message);
      expect([...tokens.dataSync(), ...dropped.dataSync()]).toEqual([1, 1, 0, 1, 1]);
      expertTotals(ids, { numExperts: 4, choices: 1 });
      device().synchronizeSync();
    }
  });
});
