import type { FloatDType } from "../../core/tensors/dtype.js";
import { linear, type Matrix, zeros } from "../../reference/core/matrix.js";
import type { GatingResult } from "../../reference/routing/gating.js";
import { round } from "../rounding.js";
import type { Random } from "./random.js";

/** A projection of tokens [T, H] to logits. */
export interface Projection {
  /** [outputs, H] */
  readonly weight: Matrix;
  readonly bias: Float64Array | undefined;
}

/** Relative changes of logits or tokens that must not matter: far above a float32 router's rounding errors. */
export const disturbance = 1e-4;
/** How many changes are tried. */
export const trials = 8;

/** Weights that move by more than this have jumped. */
const largestStep = 0.01;

/** Whether a weight is about the same after a {@link disturbance}. */
export function isSteadyWeight(before: number, after: number): boolean {
  return Math.abs(after - before) <= largestStep * Math.max(1, Math.abs(before));
}

/**
 * Normal tokens [T, H] with steady routing: rounding errors in float32 logits cannot change the experts chosen.
 * @param gates the projections of the router's gates.
 * @param route chooses experts by the gates' logits.
 * @param read what the gates multiply, of a token; default the token itself.
 */
export function steadyTokens(
  random: Random,
  tokens: number,
  gates: readonly [Projection, ...Projection[]],
  route: (...logits: Matrix[]) => GatingResult,
  dtype: FloatDType,
  read: (token: Float64Array) => Float64Array = (token) => token,
): Float32Array {
  const width = gates[0].weight.columns;
  const x = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; ) {
    const values = random.normals(width);
    const multiplied = read(round(values, dtype));
    const logits = gates.map(({ weight, bias }) => linear(multiplied, weight, bias));
    if (isSteady(random, logits, route)) x.set(values, token++ * width);
  }
  return x;
}

/** Whether small changes to a token's logits, those of each gate, leave its experts and about their weights. */
export function isSteady(
  random: Random,
  logits: readonly Float64Array[],
  route: (...logits: Matrix[]) => GatingResult,
): boolean {
  return rowsAgree(route(...logits.map((row) => disturbed(random, row))));
}

/** The logits, followed by rows of slightly changed ones. Equal logits stay equal, as their scores do. */
function disturbed(random: Random, logits: Float64Array): Matrix {
  const rows = zeros(1 + trials, logits.length);
  const step = disturbance * logits.reduce((largest, logit) => Math.max(largest, Math.abs(logit)), 0);
  for (let row = 0; row < rows.rows; row++) {
    const steps = new Map<number, number>();
    const moved = logits.map((logit) => {
      if (!steps.has(logit)) steps.set(logit, random.uniform() < 0.5 ? -step : step);
      return logit + (steps.get(logit) as number);
    });
    rows.values.set(row === 0 ? logits : moved, row * logits.length);
  }
  return rows;
}

function rowsAgree({ ids, weights: { values, columns } }: GatingResult): boolean {
  return ids.every((id, slot) => {
    const first = slot % columns;
    return id === ids[first] && isSteadyWeight(values[first] as number, values[slot] as number);
  });
}
