import { checkInteger, invalidArgument } from "../../core/errors.js";
import { type Fields, object, type Read, unchecked } from "../../core/input/options.js";
import type { Gating } from "../../core/layer/routing_rule.js";
import {
  checkGating,
  type GatingRule,
  type GatingRuleOptions,
  gatingFields,
} from "../../operators/routing/gating_options.js";

/**
 * The first gate of a layer's hierarchical gating: the number of groups of neighbouring experts, and the gate's rule.
 */
export interface HierarchyConfig extends GatingRuleOptions {
  /** G; divides numExperts. */
  numGroups: number;
}

/** A checked hierarchy: the first gate's rule for groups, and the second gate's rule for the experts of a group. */
export interface Hierarchy {
  /** G, groups of numExperts / G neighbouring experts. */
  readonly numGroups: number;
  /** The rule by which groups are chosen. */
  readonly groups: Gating;
  /** The rule by which experts are chosen within a group. */
  readonly experts: Gating;
}

const hierarchyFields = { ...gatingFields, numGroups: unchecked } satisfies Fields<HierarchyConfig>;
export const hierarchyOption = object(hierarchyFields, "{ numGroups: 8, topK: 2 }");

/** A layer's rule for its experts, and the hierarchy before it. */
type HierarchicalRule = GatingRule & {
  readonly numExperts: number;
  readonly hierarchy: Read<typeof hierarchyOption> | undefined;
};

/** Checks a layer's hierarchy and fills in the defaults; `topK` is the layer's. */
export function checkHierarchy(config: HierarchicalRule, topK: number): Hierarchy | undefined {
  const { hierarchy, numExperts } = config;
  if (hierarchy === undefined) return undefined;
  const { numGroups } = hierarchy;
  checkInteger("hierarchy.numGroups", numGroups, 1, numExperts);
  if (numExperts % numGroups !== 0) {
    throw invalidArgument("hierarchy.numGroups", `a divisor of ${numExperts} experts`, numGroups);
  }
  const groups = checkGating(hierarchy, numGroups, "hierarchy.");
  const groupSize = numExperts / numGroups;
  const chosen = topK / groups.topK;
  if (!Number.isInteger(chosen) || chosen > groupSize) {
    const expected = `a multiple of hierarchy.topK ${groups.topK} up to ${groups.topK * groupSize}`;
    throw invalidArgument("topK", `${expected}, the same number in each chosen group of ${groupSize} experts`, topK);
  }
  return { numGroups, groups, experts: checkGating({ ...config, topK: chosen }, groupSize) };
}
