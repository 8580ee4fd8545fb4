import type { LayerDescription, SharedGate, StageTimes } from "../../core/backend.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { combine } from "../experts/combine.js";
import { type Experts, groupedGemm } from "../experts/grouped_gemm.js";
import { gather } from "../experts/permute.js";
import { type GatingResult, gating } from "../routing/gating.js";
import { routerProjection } from "../routing/router_projection.js";
import { softmax } from "../routing/scores.js";
import { sort } from "../routing/sort.js";

/** A linear projection: the router, or the gate of the shared experts. */
export interface Projection {
  /** [outputs, H] */
  readonly weight: Matrix;
  /** [outputs] */
  readonly bias: Float64Array | undefined;
}

export interface ExpertNetworks {
  /** The first product: [E, N, H], N = 2I where gated, with its activation. */
  readonly gateUp: Experts;
  /** [E, N] */
  readonly gateUpBias: Matrix | undefined;
  /** [E, I, H], what multiplies the activation. */
  readonly factor: Experts | undefined;
  /** The second: [E, H, I]. */
  readonly down: Experts;
  /** [E, H] */
  readonly downBias: Matrix | undefined;
}

/** Experts of every token, and their weights [T, slots]. */
export interface Slots {
  readonly ids: Int32Array;
  readonly weights: Matrix;
}

/** Runs one stage and returns its result, so that a caller can time it. */
export type Measure = <T>(stage: keyof StageTimes, work: () => T) => T;

/** The experts of every token of x [T, H] and their weights. */
export function route(
  x: Matrix,
  router: Projection,
  selectionBias: Float64Array | undefined,
  description: LayerDescription,
  measure: Measure,
): GatingResult {
  const logits = measure("router", () => routerProjection(x, router.weight, router.bias));
  return measure("gating", () => gating(logits, description, selectionBias));
}

/**
 * The slots of every token with the shared experts' behind them. Their weight is 1, the sigmoid of the gate's output, or
 * the second of its softmax, whose first multiplies the weights of the chosen experts.
 */
export function appendShared(
  { ids, weights }: Slots,
  gate: Matrix | undefined,
  { numExperts, sharedExperts, sharedGate }: LayerDescription,
): Slots {
  if (sharedExperts === 0) return { ids, weights };
  const choices = weights.columns;
  const columns = choices + sharedExperts;
  const all = { ids: new Int32Array(weights.rows * columns), weights: zeros(weights.rows, columns) };
  for (let token = 0; token < weights.rows; token++) {
    const [routed, shared] = shareOfToken(sharedGate, gate && rowOf(gate, token));
    all.ids.set(ids.subarray(token * choices, (token + 1) * choices), token * columns);
    const row = rowOf(all.weights, token).fill(shared);
    row.set(rowOf(weights, token).map((weight) => weight * routed));
    for (let j = 0; j < sharedExperts; j++) all.ids[token * columns + choices + j] = numExperts + j;
  }
  return all;
}

/** Factors on the routed and on the shared experts' output. */
function shareOfToken(sharedGate: SharedGate, gate: Float64Array | undefined): readonly [number, number] {
  if (gate === undefined || sharedGate === "none") return [1, 1];
  if (sharedGate === "sigmoid") return [1, 1 / (1 + Math.exp(-(gate[0] as number)))];
  return [...softmax(gate)] as [number, number];
}

/**
 * y[t] = Σⱼ weights[t, j] · expert_{ids[t, j]}(x[t]), where expert(x) = down · (activation(gateUp · x) * (factor · x)), or
 * with `weightOn` input Σⱼ expert_{ids[t, j]}(weights[t, j] · x[t]).
 */
export function forward(
  x: Matrix,
  { ids, weights }: Slots,
  description: LayerDescription,
  { gateUp, gateUpBias, factor, down, downBias }: ExpertNetworks,
  measure: Measure,
): Matrix {
  const { numExperts, sharedExperts, weightOn, outputActivation } = description;
  const { offsets, tokenOfRow, rowOfSlot } = measure("sort", () =>
    sort(ids, weights.columns, numExperts + sharedExperts),
  );
  const inner = measure("gateUp", () => {
    const rows = gather(x, tokenOfRow);
    if (weightOn === "input") scaleRows(rows, rowOfSlot, weights);
    const product = groupedGemm(rows, gateUp, gateUpBias, offsets, undefined);
    if (factor !== undefined) multiply(product, groupedGemm(rows, factor, undefined, offsets, undefined));
    return product;
  });
  const outputs = measure("down", () => {
    const rows = groupedGemm(inner, down, downBias, offsets, undefined);
    if (outputActivation === "softmax") for (let r = 0; r < rows.rows; r++) rowOf(rows, r).set(softmax(rowOf(rows, r)));
    return rows;
  });
  const factors = weightOn === "input" ? { ...weights, values: weights.values.map(() => 1) } : weights;
  return measure("combine", () => combine(outputs, rowOfSlot, factors));
}

/** Multiplies the row of every slot by the slot's weight. */
function scaleRows(rows: Matrix, rowOfSlot: Int32Array, weights: Matrix): void {
  rowOfSlot.forEach((row, slot) => {
    if (row < 0) return;
    const values = rowOf(rows, row);
    values.set(values.map((value) => value * (weights.values[slot] as number)));
  });
}

function multiply(target: Matrix, factors: Matrix): void {
  target.values.set(target.values.map((value, index) => value * (factors.values[index] as number)));
}
