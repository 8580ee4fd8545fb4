import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { type CountsToken, tokenMask } from "../core/token_mask.js";
import { ranking } from "../routing/selection.js";
import { type ChosenGroups, choseGroup, chosenGroups, type GroupRow } from "./noisy_top_k.js";

/** The gradients of expertLoad's inputs, all [T, E]. */
export interface LoadGradients {
  readonly clean: Matrix;
  readonly noisy: Matrix;
  readonly deviation: Matrix;
}

/** The logits of all tokens. */
type LoadInputs = LoadGradients;

/** See lib/operators/noise/expert_load_backward.ts. */
export function expertLoadBackward(
  inputs: LoadInputs,
  dLoad: Float64Array,
  topK: number,
  counts: CountsToken,
  groups?: ChosenGroups,
): LoadGradients {
  const { rows, columns } = inputs.clean;
  const gradients = { clean: zeros(rows, columns), noisy: zeros(rows, columns), deviation: zeros(rows, columns) };
  const count = groups?.count ?? 1;
  const size = columns / count;
  for (let group = 0; group < count; group++) {
    const chose = (token: number) => counts(token) && (groups === undefined || choseGroup(groups, rows, token, group));
    const tokens = Array.from({ length: rows }, (_, token) => token).filter(chose);
    const factor = groups === undefined ? 1 : (groups.load[group] as number) / tokens.length;
    const part = (matrix: Matrix, token: number) => rowOf(matrix, token).subarray(group * size, (group + 1) * size);
    const slopes = dLoad.subarray(group * size, (group + 1) * size).map((value) => factor * value);
    for (const token of tokens) {
      const at = ({ clean, noisy, deviation }: LoadGradients) =>
        ({ clean: part(clean, token), noisy: part(noisy, token), deviation: part(deviation, token) }) as const;
      addRow(at(inputs), slopes, topK, at(gradients));
    }
  }
  return gradients;
}

/** One token's part of a group: from Σ dLoad · Φ((clean - threshold) / deviation). */
function addRow({ clean, noisy, deviation }: GroupRow, dLoad: Float64Array, topK: number, gradient: GroupRow): void {
  const ordered = noisy.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const order = ranking(ordered);
  const [last, next] = [order[topK - 1] as number, order[topK]];
  const nextLogit = next === undefined ? -Infinity : (ordered[next] as number);
  clean.forEach((logit, expert) => {
    const at = (noisy[expert] as number) > nextLogit ? next : last;
    const threshold = at === undefined ? -Infinity : (ordered[at] as number);
    const z = (logit - threshold) / (deviation[expert] as number);
    if (!Number.isFinite(z) || at === undefined) return;
    const density = Math.exp(-(z ** 2) / 2) / Math.sqrt(2 * Math.PI);
    const byClean = ((dLoad[expert] as number) * density) / (deviation[expert] as number);
    gradient.clean[expert] = byClean;
    gradient.deviation[expert] = -byClean * z;
    gradient.noisy[at] = (gradient.noisy[at] as number) - byClean;
  });
}

export const runNoisyLogitsBackward: Implementation<"noisyLogitsBackward"> = (operands) => {
  const [spread, noise, dLogits] = [operands.spread.values(), operands.noise.values(), operands.dLogits.values()];
  const dDeviation = operands.dDeviation?.values();
  const gradient = spread.map((value, i) => {
    const slope = 1 / (1 + Math.exp(-value));
    return ((dLogits[i] as number) * (noise[i] as number) + (dDeviation?.[i] ?? 0)) * slope;
  });
  operands.dSpread.store(gradient);
};

export const runExpertLoadBackward: Implementation<"expertLoadBackward"> = (operands, stream) => {
  const { clean, noisy, deviation, topK, dLoad } = operands;
  const counts = tokenMask(operands.tokenMask);
  const inputs = { clean: clean.matrix(), noisy: noisy.matrix(), deviation: deviation.matrix() };
  const groups = chosenGroups("expertLoadBackward", operands, stream, counts);
  const gradients = expertLoadBackward(inputs, dLoad.values(), topK, counts, groups);
  operands.dClean.store(gradients.clean.values);
  operands.dNoisy.store(gradients.noisy.values);
  operands.dDeviation.store(gradients.deviation.values);
};
