import type { Gating } from "../../core/layer/routing_rule.js";

/** The k experts with the largest keys, largest first; with groups, from the best groups only. NaN keys come last. */
export function choose(keys: Float64Array, rule: Gating): Int32Array {
  const order = ranking(keys);
  if (rule.numGroups === 1) return order.subarray(0, rule.topK);
  const size = keys.length / rule.numGroups;
  const groupKeys = Float64Array.from({ length: rule.numGroups }, (_, group) =>
    groupScore(keys.subarray(group * size, (group + 1) * size), rule),
  );
  const groups = new Set(ranking(groupKeys).subarray(0, rule.topGroups));
  return order.filter((expert) => groups.has(Math.floor(expert / size))).subarray(0, rule.topK);
}

/** The sum of one group's largest keys; NaN counts as -Infinity. */
function groupScore(keys: Float64Array, { groupScore: kind, topK, topGroups }: Gating): number {
  const terms = kind === "max" ? 1 : kind === "top2_sum" ? 2 : topK / topGroups;
  const ordered = keys.map((key) => (Number.isNaN(key) ? -Infinity : key));
  return ordered
    .sort()
    .subarray(keys.length - terms)
    .reduceRight((sum, key) => sum + key);
}

/** Indices from the largest key to the smallest; the sort is stable, so equal ones stay in order. NaN comes last. */
export function ranking(keys: Float64Array): Int32Array {
  return Int32Array.from(keys.keys()).sort((a, b) => descending(keys[a] as number, keys[b] as number));
}

/** Compares for a descending sort, NaN last. */
export function descending(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return a > b ? -1 : 1;
}
