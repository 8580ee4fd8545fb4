import type { MoeLayerConfig } from "../../layer/description/config.js";
import { isSteadyWeight } from "../../testing/inputs/steady_tokens.js";
import type { SubjectInputs } from "../../testing/subject/subject.js";
import { ExactLayer, type Routings, someTokens } from "./exact_layer.js";
import { pickRows, rowsOf, type Sample, spread } from "./rows.js";

/** Multiply-adds, counted as two operations, and more that `reference` does in a few seconds. */
const mostOperations = 1e9;
/** What it takes to bring a weight there. */
const operationsPerWeight = 40;
/** Tokens that are looked at for one that is computed. */
const candidatesEach = 4;

/**
 * Of a layer's outputs, those of some tokens, at least one: of those whose experts rounding errors in the router cannot change, or
 * of all if there are none.
 */
export function layerSample(inputs: SubjectInputs, most = mostOperations): Sample {
  using layer = new ExactLayer(inputs);
  const [tokens, hidden] = inputs.x.shape as [number, number];
  const { capacity, expertChoice } = inputs.config as MoeLayerConfig;
  const count = Math.min(tokens, affordableTokens(inputs, most));
  // Where experts choose or are full, the routing of a token is that of all.
  const together = capacity !== undefined || expertChoice !== undefined;
  const candidates = spread(tokens, together ? tokens : candidatesEach * count);
  const routings = layer.routings(rowsOf(inputs.x, candidates));
  const rows = candidates.map((_, row) => row);
  const steady = rows.filter((row) => isSteady(routings, row));
  const eligible = steady.length > 0 ? steady : rows;
  const chosen = spread(eligible.length, count).map((index) => eligible[index] as number);
  const wanted = chosen.map((row) => candidates[row] as number);
  const y = layer.forward(rowsOf(inputs.x, wanted), someTokens(routings[0], chosen));
  return {
    values: { y },
    pick: (_output, values) => pickRows(values, wanted, hidden),
    text: wanted.length === tokens ? "" : `${wanted.length} of ${tokens} tokens`,
  };
}

/** How many tokens can be computed, at least one, if each brings experts of its own until all are there. */
function affordableTokens({ config, weights }: SubjectInputs, most: number): number {
  const { hiddenSize, intermediateSize, numExperts, topK } = config as MoeLayerConfig;
  const expert = hiddenSize * intermediateSize * Object.keys(weights.experts).length;
  const withOwn = most / (topK * expert * (2 + operationsPerWeight));
  const withAll = (most - numExperts * expert * operationsPerWeight) / (2 * topK * expert);
  return Math.max(1, Math.floor(withOwn), Math.floor(withAll));
}

/** Whether a token has the same experts and about the same weights in all routings. */
function isSteady([first, ...others]: Routings, row: number): boolean {
  const { ids, weights } = someTokens(first, [row]);
  return others.every((other) => {
    const changed = someTokens(other, [row]);
    return ids.every((id, slot) => {
      return changed.ids[slot] === id && isSteadyWeight(weights[slot] as number, changed.weights[slot] as number);
    });
  });
}
