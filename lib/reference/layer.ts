import type { Gating, StageTimes } from "../backend.js";
import { combine } from "./combine.js";
import { type GatingResult, gating } from "./gating.js";
import { type Experts, groupedGemm } from "./grouped_gemm.js";
import type { Matrix } from "./matrix.js";
import { routerProjection } from "./router_projection.js";
import { sort } from "./sort.js";

export interface Router {
  /** [E, H] */
  readonly weight: Matrix;
  /** [E] */
  readonly bias: Float64Array | undefined;
}

export interface ExpertNetworks {
  /** The first product: [E, N, H], N = 2I where gated, with its activation. */
  readonly gateUp: Experts;
  /** [E, N] */
  readonly gateUpBias: Matrix | undefined;
  /** The second: [E, H, I]. */
  readonly down: Experts;
  /** [E, H] */
  readonly downBias: Matrix | undefined;
}

/** Runs one stage and returns its result, so that a caller can time it. */
export type Measure = <T>(stage: keyof StageTimes, work: () => T) => T;

/** The experts of every token of x [T, H] and their weights. */
export function route(x: Matrix, router: Router, description: Gating, measure: Measure): GatingResult {
  const logits = measure("router", () => routerProjection(x, router.weight, router.bias));
  return measure("gating", () => gating(logits, description));
}

/** y[t] = Σⱼ weights[t, j] · expert_{ids[t, j]}(x[t]), where expert(x) = down · activation(gateUp · x). */
export function forward(
  x: Matrix,
  ids: Int32Array,
  weights: Matrix,
  numExperts: number,
  { gateUp, gateUpBias, down, downBias }: ExpertNetworks,
  measure: Measure,
): Matrix {
  const { offsets, tokenOfRow, rowOfSlot } = measure("sort", () => sort(ids, weights.columns, numExperts));
  const inner = measure("gateUp", () => groupedGemm(x, gateUp, gateUpBias, offsets, tokenOfRow));
  const rows = measure("down", () => groupedGemm(inner, down, downBias, offsets, undefined));
  return measure("combine", () => combine(rows, rowOfSlot, weights));
}
