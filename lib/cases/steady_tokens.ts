import type { Gating } from "../backend.js";
import type { FloatDType } from "../dtype.js";
import { type GatingResult, gating } from "../reference/gating.js";
import { linear, type Matrix, zeros } from "../reference/matrix.js";
import type { Random } from "./random.js";
import { round } from "./rounding.js";

/** What tokens are routed by. */
export interface Router {
  /** [E, H] */
  readonly weight: Matrix;
  readonly bias: Float64Array | undefined;
  readonly selectionBias: Float64Array | undefined;
}

/** Changes of the logits that must not matter, relative to the largest: far more than a float32 router rounds. */
const disturbance = 1e-4;
const trials = 8;

/** Weights that move by more than this have jumped. */
const largestStep = 0.01;

/** Normal tokens [T, H] whose routing is steady: the rounding of a float32 router cannot change what is chosen. */
export function steadyTokens(
  random: Random,
  tokens: number,
  router: Router,
  rule: Gating,
  dtype: FloatDType,
): Float32Array {
  const width = router.weight.columns;
  const x = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; ) {
    const values = random.normals(width);
    const logits = linear(round(values, dtype), router.weight, router.bias);
    if (isSteady(random, logits, rule, router.selectionBias)) x.set(values, token++ * width);
  }
  return x;
}

function isSteady(random: Random, logits: Float64Array, rule: Gating, selectionBias: Float64Array | undefined) {
  const rows = zeros(1 + trials, logits.length);
  const step = disturbance * logits.reduce((largest, logit) => Math.max(largest, Math.abs(logit)), 0);
  for (let row = 0; row < rows.rows; row++) {
    const moved = row === 0 ? logits : logits.map((logit) => logit + (random.uniform() < 0.5 ? -step : step));
    rows.values.set(moved, row * logits.length);
  }
  return rowsAgree(gating(rows, rule, selectionBias));
}

function rowsAgree({ ids, weights: { values, columns } }: GatingResult): boolean {
  return ids.every((id, slot) => {
    const first = slot % columns;
    const step = Math.abs((values[slot] as number) - (values[first] as number));
    return id === ids[first] && step <= largestStep * Math.max(1, Math.abs(values[first] as number));
  });
}
