import { erfc } from "../core/erf.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { type CountsToken, tokenMask } from "../core/token_mask.js";
import { softplus } from "../routing/scores.js";

/** logits = clean + noise · deviation, deviation = softplus(spread) + ε. */
export function noisyLogits(clean: Float64Array, spread: Float64Array, noise: Float64Array, epsilon: number) {
  const deviation = spread.map((value) => softplus(value) + epsilon);
  const logits = clean.map((value, index) => value + (noise[index] as number) * (deviation[index] as number));
  return { logits, deviation };
}

/** The standard normal distribution function. */
function normalCdf(z: number): number {
  return erfc(-z / Math.SQRT2) / 2;
}

/** The groups of a hierarchical gate: their number, each token's chosen groups [T, k1], and the groups' load [G]. */
export interface ChosenGroups {
  readonly count: number;
  readonly ids: Int32Array;
  readonly load: Float64Array;
}

/** The logits of one token for one group of experts. */
export interface GroupRow {
  readonly clean: Float64Array;
  readonly noisy: Float64Array;
  readonly deviation: Float64Array;
}

/** For every expert of the group, the probability of being in the top k if only its own noise were redrawn. */
function probabilities({ clean, noisy, deviation }: GroupRow, topK: number): Float64Array {
  const ordered = noisy
    .map((logit) => (Number.isNaN(logit) ? Number.NEGATIVE_INFINITY : logit))
    .sort()
    .reverse();
  const last = ordered[topK - 1] as number;
  const next = ordered[topK] ?? Number.NEGATIVE_INFINITY;
  return clean.map((logit, expert) => {
    const threshold = (noisy[expert] as number) > next ? next : last;
    const probability = normalCdf((logit - threshold) / (deviation[expert] as number));
    return Number.isNaN(probability) ? 0 : probability;
  });
}

/** Every expert's load; see lib/operators/noise/expert_load.ts. */
export function expertLoad(
  { clean, noisy, deviation }: { clean: Matrix; noisy: Matrix; deviation: Matrix },
  topK: number,
  counts: CountsToken,
  groups?: ChosenGroups,
): Float64Array {
  const count = groups?.count ?? 1;
  const size = clean.columns / count;
  const load = new Float64Array(clean.columns);
  for (let group = 0; group < count; group++) {
    const sums = load.subarray(group * size, (group + 1) * size);
    const part = (matrix: Matrix, token: number) => rowOf(matrix, token).subarray(group * size, (group + 1) * size);
    let tokens = 0;
    for (let token = 0; token < clean.rows; token++) {
      if (!counts(token)) continue;
      if (groups !== undefined && !choseGroup(groups, clean.rows, token, group)) continue;
      tokens++;
      const row = { clean: part(clean, token), noisy: part(noisy, token), deviation: part(deviation, token) };
      probabilities(row, topK).forEach((probability, expert) => {
        (sums[expert] as number) += probability;
      });
    }
    if (groups === undefined || tokens === 0) continue;
    const factor = (groups.load[group] as number) / tokens;
    sums.forEach((sum, expert) => {
      sums[expert] = factor * sum;
    });
  }
  return load;
}

/** Whether a token chose a group. */
export function choseGroup({ ids }: ChosenGroups, tokens: number, token: number, group: number): boolean {
  const perToken = ids.length / tokens;
  return ids.subarray(token * perToken, (token + 1) * perToken).includes(group);
}

export const runNoisyLogits: Implementation<"noisyLogits"> = ({ clean, spread, noise, epsilon, logits, deviation }) => {
  const result = noisyLogits(clean.values(), spread.values(), noise.values(), epsilon);
  logits.store(result.logits);
  deviation.store(result.deviation);
};

export const runExpertLoad: Implementation<"expertLoad"> = (operands, stream) => {
  const { clean, noisy, deviation, topK, load } = operands;
  const counts = tokenMask(operands.tokenMask);
  const logits = { clean: clean.matrix(), noisy: noisy.matrix(), deviation: deviation.matrix() };
  load.store(expertLoad(logits, topK, counts, chosenGroups("expertLoad", operands, stream, counts)));
};

/** The groups of a load, if it has any; `name` is that of the operator. */
export function chosenGroups(
  name: string,
  { groupIds, groupLoad }: Pick<Parameters<Implementation<"expertLoad">>[0], "groupIds" | "groupLoad">,
  stream: Stream,
  counts: CountsToken,
): ChosenGroups | undefined {
  if (!groupIds || !groupLoad) return undefined;
  const load = groupLoad.values();
  return {
    count: load.length,
    ids: stream.checkIndices(`${name}: groups.ids`, groupIds, "a group", load.length, counts),
    load,
  };
}
