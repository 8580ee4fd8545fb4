import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { softmax } from "./scores.js";

/** The experts of slots [T, k] and their weights. */
interface Slots {
  readonly ids: Int32Array;
  readonly weights: Matrix;
}

/** The experts with rows of their own: those of a bank, and shared ones behind them. */
interface HeldExperts {
  readonly bank: { readonly first: number; readonly count: number };
  readonly sharedExperts: number;
}

/**
 * Every token's chosen experts followed by the shared ones, numbered within the bank. The weight of shared experts is
 * 1, the sigmoid of the gate [T, 1], or the second entry of the softmax of [T, 2], whose first entry multiplies the
 * other weights.
 */
export function sharedSlots(
  { ids, weights }: Slots,
  gate: Matrix | undefined,
  { bank, sharedExperts }: HeldExperts,
): Slots {
  const choices = weights.columns;
  const columns = choices + sharedExperts;
  const all = { ids: new Int32Array(weights.rows * columns), weights: zeros(weights.rows, columns) };
  const within = ids.map((id) => (id >= bank.first && id < bank.first + bank.count ? id - bank.first : -1));
  for (let token = 0; token < weights.rows; token++) {
    const [routed, shared] = sharesOf(gate && rowOf(gate, token));
    all.ids.set(within.subarray(token * choices, (token + 1) * choices), token * columns);
    const row = rowOf(all.weights, token).fill(shared);
    row.set(rowOf(weights, token).map((weight) => weight * routed));
    for (let j = 0; j < sharedExperts; j++) all.ids[token * columns + choices + j] = bank.count + j;
  }
  return all;
}

/** What multiplies the output of the chosen and of the shared experts. */
function sharesOf(gate: Float64Array | undefined): readonly [number, number] {
  if (gate === undefined) return [1, 1];
  if (gate.length === 1) return [1, 1 / (1 + Math.exp(-(gate[0] as number)))];
  return [...softmax(gate)] as [number, number];
}

export const runSharedSlots: Implementation<"sharedSlots"> = (operands, stream) => {
  const { numExperts, bankFirst, bankCount, sharedExperts } = operands;
  const ids = stream.checkIndices("sharedSlots: ids", operands.ids, "an expert", numExperts);
  const held = { bank: { first: bankFirst, count: bankCount }, sharedExperts };
  const slots = sharedSlots({ ids, weights: operands.weights.matrix() }, operands.gate?.matrix(), held);
  operands.slotIds.store(slots.ids);
  operands.slotWeights.store(slots.weights.values);
};

export const runSharedSlotsBackward: Implementation<"sharedSlotsBackward"> = (operands) => {
  const [weights, given, gate] = [operands.weights.matrix(), operands.dSlotWeights.matrix(), operands.gate?.matrix()];
  const dWeights = zeros(weights.rows, weights.columns);
  const dGate = zeros(weights.rows, gate?.columns ?? 0);
  for (let token = 0; token < weights.rows; token++) {
    const [routed, shared] = sharesOf(gate && rowOf(gate, token));
    const slots = rowOf(given, token);
    const dChoices = slots.subarray(0, weights.columns);
    rowOf(dWeights, token).set(dChoices.map((value) => routed * value));
    const dRouted = dChoices.reduce((sum, value, j) => sum + value * (rowOf(weights, token)[j] as number), 0);
    const dShared = slots.subarray(weights.columns).reduce((sum, value) => sum + value, 0);
    if (gate?.columns === 1) rowOf(dGate, token)[0] = shared * (1 - shared) * dShared;
    if (gate?.columns === 2) {
      const slope = routed * shared * (dRouted - dShared);
      rowOf(dGate, token).set([slope, -slope]);
    }
  }
  operands.dWeights.store(dWeights.values);
  operands.dGate?.store(dGate.values);
};
