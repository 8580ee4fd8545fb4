import type { Drop, KeptDivisor } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { descending } from "./selection.js";

/** Which choices are kept, and their weights; see limitCapacity of lib/core/operators/capacity.ts. */
interface CapacityLimit {
  readonly capacity: number;
  readonly sequenceLength: number;
  readonly drop: Drop;
  readonly divisor: KeptDivisor;
  readonly scale: number;
}

/** A routing [T, k] in which choices beyond what their experts take from a sequence are dropped: id -1, weight 0. */
export function limitCapacity(
  ids: Int32Array,
  weights: Matrix,
  numExperts: number,
  { capacity, sequenceLength, drop, divisor, scale }: CapacityLimit,
): { ids: Int32Array; weights: Matrix } {
  const topK = weights.columns;
  const kept = { ids: new Int32Array(ids.length).fill(-1), weights: zeros(weights.rows, topK) };
  const taken = new Map<number, number>();
  for (const slot of inOrder(ids, weights, drop)) {
    const expert = ids[slot] as number;
    const expertOfSequence = Math.floor(slot / topK / sequenceLength) * numExperts + expert;
    const count = taken.get(expertOfSequence) ?? 0;
    if (count >= capacity) continue;
    taken.set(expertOfSequence, count + 1);
    kept.ids[slot] = expert;
    kept.weights.values[slot] = weights.values[slot] as number;
  }
  if (divisor === "none") return kept;
  for (let token = 0; token < weights.rows; token++) {
    const row = rowOf(kept.weights, token);
    const idOf = (list: Int32Array, slot: number) => list[token * topK + slot] as number;
    const summed = divisor === "kept" ? row : rowOf(weights, token).filter((_, slot) => idOf(ids, slot) >= 0);
    const sum = summed.reduce((a, b) => a + b, 0);
    // A sum may be NaN, and dropped choices keep their 0.
    if (sum !== 0) row.set(row.map((weight, slot) => (idOf(kept.ids, slot) < 0 ? 0 : (weight / sum) * scale)));
  }
  return kept;
}

/** The slots that chose an expert, in the order they are served. */
function inOrder(ids: Int32Array, weights: Matrix, drop: Drop): number[] {
  const topK = weights.columns;
  const slots = [...ids.keys()].filter((slot) => (ids[slot] as number) >= 0);
  const weightOf = (slot: number) => weights.values[slot] as number;
  if (drop === "probability") return slots.sort((a, b) => descending(weightOf(a), weightOf(b)) || a - b);
  const largest = new Map<number, number>();
  for (const slot of slots) {
    const token = Math.floor(slot / topK);
    const before = largest.get(token) ?? Number.NaN;
    largest.set(token, descending(weightOf(slot), before) < 0 ? weightOf(slot) : before);
  }
  const rank = (slot: number) => (drop === "position" ? 0 : (largest.get(Math.floor(slot / topK)) as number));
  return slots.sort((a, b) => (a % topK) - (b % topK) || descending(rank(a), rank(b)) || a - b);
}

/** [E, capacity], token * k + j of the first `capacity` choices of every expert, in that order, padded with -1. */
export function expertSlots(ids: Int32Array, numExperts: number, capacity: number): Int32Array {
  const slots = new Int32Array(numExperts * capacity).fill(-1);
  const counts = new Int32Array(numExperts);
  ids.forEach((expert, slot) => {
    if (expert < 0) return;
    const place = (counts[expert] as number)++;
    if (place < capacity) slots[expert * capacity + place] = slot;
  });
  return slots;
}

export const runLimitCapacity: Implementation<"limitCapacity"> = (
  { ids, weights, keptIds, keptWeights, numExperts, ...limit },
  stream,
) => {
  const chosen = stream.checkIndices("limitCapacity: ids", ids, "an expert", numExperts);
  const kept = limitCapacity(chosen, weights.matrix(), numExperts, limit);
  keptIds.store(kept.ids);
  keptWeights.store(kept.weights.values);
};

export const runExpertSlots: Implementation<"expertSlots"> = ({ ids, slots }, stream) => {
  const [numExperts, capacity] = slots.shape as [number, number];
  const chosen = stream.checkIndices("expertSlots: ids", ids, "an expert", numExperts);
  slots.store(expertSlots(chosen, numExperts, capacity));
};
