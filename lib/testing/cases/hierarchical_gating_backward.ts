import { checkGating, gatingRule } from "../../operators/routing/gating_options.js";
import { hierarchicalGatingBackward } from "../../operators/routing/hierarchical_gating_backward.js";
import { hierarchicalGating } from "../../reference/routing/hierarchical_gating.js";
import type { Case } from "../case.js";
import { round } from "../rounding.js";
import { logitKinds } from "./gating.js";
import { type HierarchicalProblem, hierarchicalGatingCase, problems } from "./hierarchical_gating.js";

interface Problem extends HierarchicalProblem {
  /** Whether some choices are dropped: id -1. */
  dropped?: boolean;
}

export function hierarchicalGatingBackwardCase(problem: Problem): Case {
  const { tokens, numGroups, groupSize, groups, experts, dtype = "f32", kind = "normal", dropped = false } = problem;
  return {
    name: `${hierarchicalGatingCase(problem).name}${dropped ? ", some dropped" : ""}`,
    operator: "hierarchicalGatingBackward",
    tolerances: { dGroupLogits: 2e-6, dLogits: 2e-6 },
    // Terms may cancel out.
    magnitudes: { dGroupLogits: groups.scale ?? 1, dLogits: groups.scale ?? 1 },
    run(inputs) {
      const { random } = inputs;
      const rowsOf = (columns: number) =>
        Float32Array.from(Array.from({ length: tokens }, () => [...logitKinds[kind](random, columns)]).flat());
      const exact = (values: Float32Array, columns: number) => ({
        values: round(values, dtype),
        rows: tokens,
        columns,
      });
      const numExperts = numGroups * groupSize;
      const [groupLogits, logits] = [rowsOf(numGroups), rowsOf(numExperts)];
      // The same choice in every run.
      const { ids } = hierarchicalGating(
        exact(groupLogits, numGroups),
        exact(logits, numExperts),
        checkGating(gatingRule(groups, "groups"), numGroups),
        checkGating(gatingRule(experts, "experts"), groupSize),
      );
      const shape = [tokens, groups.topK * experts.topK];
      const choices = ids.map((id) => (dropped && random.uniform() < 0.4 ? -1 : id));
      return {
        ...hierarchicalGatingBackward(
          inputs.floats(groupLogits, [tokens, numGroups], dtype),
          inputs.floats(logits, [tokens, numExperts], dtype),
          { ids: inputs.integers(choices, shape) },
          inputs.f32Normals(shape),
          { groups, experts },
        ),
      };
    },
  };
}

export const hierarchicalGatingBackwardCases: readonly Case[] = [
  ...problems,
  ...problems.slice(0, 4).map((problem) => ({ ...problem, dropped: true })),
  {
    tokens: 11,
    numGroups: 4,
    groupSize: 6,
    groups: { topK: 2, scoring: "sigmoid" as const, normalize: true },
    experts: { topK: 2, scoring: "sparsemixer" as const, jitter: 0.3 },
  },
  {
    tokens: 11,
    numGroups: 4,
    groupSize: 6,
    groups: { topK: 3, scoring: "sqrt_softplus" as const },
    experts: { topK: 3, scoring: "none" as const, normalize: { by: "lp" as const, power: 2 } },
  },
].map(hierarchicalGatingBackwardCase);
