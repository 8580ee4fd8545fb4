import type { Gating } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf } from "../core/matrix.js";
import { gather } from "../experts/permute.js";
import { type GatingResult, gating } from "./gating.js";

/**
 * A gate over groups of neighbouring experts, then a gate within each chosen group (arXiv 1701.06538, appendix B).
 * Slots are ordered by group, then by expert within the group.
 */
export function hierarchicalGating(groupLogits: Matrix, logits: Matrix, groups: Gating, experts: Gating): GatingResult {
  const numGroups = groupLogits.columns;
  const size = logits.columns / numGroups;
  const first = gating(groupLogits, groups);
  const rows = first.ids.map((group, slot) => Math.floor(slot / groups.topK) * numGroups + group);
  const second = gating(gather({ values: logits.values, rows: logits.rows * numGroups, columns: size }, rows), experts);
  const ids = second.ids.map((expert, slot) => (first.ids[Math.floor(slot / experts.topK)] as number) * size + expert);
  for (let slot = 0; slot < rows.length; slot++) {
    const weights = rowOf(second.weights, slot);
    weights.set(weights.map((weight) => weight * (first.weights.values[slot] as number)));
  }
  const weights = { ...second.weights, rows: logits.rows, columns: groups.topK * experts.topK };
  return { ids, weights, nonFiniteRows: first.nonFiniteRows + second.nonFiniteRows };
}

export const runHierarchicalGating: Implementation<"hierarchicalGating"> = (
  { groupLogits, logits, ids, weights, groups, experts },
  stream,
) => {
  const result = hierarchicalGating(groupLogits.matrix(), logits.matrix(), groups, experts);
  stream.nonFiniteLogitRows += result.nonFiniteRows;
  ids.store(result.ids);
  weights.store(result.weights.values);
};
