import { loadNative } from "../../core/addon/native.js";
import { type OffloadPolicy, type OffloadStats, offloadPolicies } from "../../core/device/backend.js";
import type { RoutingTrace } from "./trace_file.js";

/** What a number of slots would have given. */
export interface SlotsResult {
  readonly slots: number;
  readonly policies: Readonly<Record<OffloadPolicy, Pick<OffloadStats, "hits" | "misses" | "evictions">>>;
  /** The share of uses that fall on the `slots` most used experts: hits if just those were always resident. */
  readonly mostUsed: number;
}

/** The share of a trace's uses that were hits. */
export function hitRate({ hits, misses }: Pick<OffloadStats, "hits" | "misses">): number {
  return hits / (hits + misses);
}

/** Replays a trace against every policy with these numbers of slots. */
export function replayTrace(trace: RoutingTrace, slotCounts: readonly number[]): SlotsResult[] {
  const { numExperts, ids, ends } = trace;
  const native = loadNative();
  const uses = usesOf(trace).sort((a, b) => b - a);
  const total = uses.reduce((sum, count) => sum + count, 0);
  return slotCounts.map((slots) => {
    const results = offloadPolicies.map((policy) => {
      const rule = { budget: null, slots, bytes: 0, policy, pinned: [], rowsToLoad: 0 };
      const { hits, misses, evictions } = native.replayOffload(numExperts, rule, ids, ends);
      return [policy, { hits, misses, evictions }] as const;
    });
    const most = uses.slice(0, slots).reduce((sum, count) => sum + count, 0);
    return { slots, policies: Object.fromEntries(results) as SlotsResult["policies"], mostUsed: most / total };
  });
}

/** In how many calls each expert was used. */
function usesOf({ numExperts, ids, ends }: RoutingTrace): number[] {
  const uses = new Array<number>(numExperts).fill(0);
  ends.forEach((end, call) => {
    const used = new Set(ids.subarray(ends[call - 1] ?? 0, end));
    for (const id of used) if (id >= 0) uses[id] = (uses[id] as number) + 1;
  });
  return uses;
}
