import type { LayerDescription, SharedGate } from "../../../core/backend.js";
import { type Matrix, rowOf, zeros } from "../../core/matrix.js";
import { softmax } from "../../routing/scores.js";
import { sort as sortByExpert } from "../../routing/sort.js";
import type { Slots } from "../forward_state.js";
import type { Stage } from "./stage.js";

/** Sorts every token's slots by expert; slots of experts outside the bank have no row. */
export const sort: Stage = (state, { description }) => {
  const gate = state.has("sharedGate") ? state.get("sharedGate") : undefined;
  const slots = slotsOf(state.get("chosen"), gate, description);
  const experts = description.bank.count + description.sharedExperts;
  state.set("slots", slots);
  state.set("rows", sortByExpert(slots.ids, slots.weights.columns, experts));
};

/**
 * Every token's chosen experts followed by the shared ones, numbered within the bank. The weight of shared experts is
 * 1, the sigmoid of the gate's output, or the second entry of its softmax, whose first entry multiplies the other
 * weights.
 */
function slotsOf(
  { ids, weights }: Slots,
  gate: Matrix | undefined,
  { bank, sharedExperts, sharedGate }: LayerDescription,
): Slots {
  const choices = weights.columns;
  const columns = choices + sharedExperts;
  const all = { ids: new Int32Array(weights.rows * columns), weights: zeros(weights.rows, columns) };
  const within = ids.map((id) => (id >= bank.first && id < bank.first + bank.count ? id - bank.first : -1));
  for (let token = 0; token < weights.rows; token++) {
    const [routed, shared] = shareOfToken(sharedGate, gate && rowOf(gate, token));
    all.ids.set(within.subarray(token * choices, (token + 1) * choices), token * columns);
    const row = rowOf(all.weights, token).fill(shared);
    row.set(rowOf(weights, token).map((weight) => weight * routed));
    for (let j = 0; j < sharedExperts; j++) all.ids[token * columns + choices + j] = bank.count + j;
  }
  return all;
}

/** What multiplies the output of the chosen and of the shared experts. */
function shareOfToken(sharedGate: SharedGate, gate: Float64Array | undefined): readonly [number, number] {
  if (gate === undefined || sharedGate === "none") return [1, 1];
  if (sharedGate === "sigmoid") return [1, 1 / (1 + Math.exp(-(gate[0] as number)))];
  return [...softmax(gate)] as [number, number];
}
