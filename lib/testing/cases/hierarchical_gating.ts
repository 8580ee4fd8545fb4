import type { FloatDType } from "../../core/tensors/dtype.js";
import { type HierarchicalGatingOptions, hierarchicalGating } from "../../operators/routing/hierarchical_gating.js";
import type { Case } from "../case.js";
import { logitKinds } from "./gating.js";

export interface HierarchicalProblem extends HierarchicalGatingOptions {
  tokens: number;
  numGroups: number;
  groupSize: number;
  dtype?: FloatDType;
  /** How the logits of both gates are drawn; default normal. */
  kind?: keyof typeof logitKinds;
}

export function hierarchicalGatingCase(problem: HierarchicalProblem): Case {
  const { tokens, numGroups, groupSize, groups, experts, dtype = "f32", kind = "normal" } = problem;
  const first = `${groups.scoring ?? "softmax"} ${groups.topK} of ${numGroups}`;
  const second = `${experts.scoring ?? "softmax"} ${experts.topK} of ${groupSize}`;
  return {
    name: `T${tokens} ${first}, then ${second} of ${kind} ${dtype}`,
    operator: "hierarchicalGating",
    tolerances: { weights: 6e-6 },
    run(inputs) {
      const logits = (columns: number) => {
        const values = Array.from({ length: tokens }, () => [...logitKinds[kind](inputs.random, columns)]);
        return inputs.floats(Float32Array.from(values.flat()), [tokens, columns], dtype);
      };
      return { ...hierarchicalGating(logits(numGroups), logits(numGroups * groupSize), { groups, experts }) };
    },
  };
}

const selected = { scoring: "softmax_selected" } as const;

export const problems: readonly HierarchicalProblem[] = [
  { tokens: 13, numGroups: 4, groupSize: 8, groups: { ...selected, topK: 2 }, experts: { ...selected, topK: 2 } },
  {
    tokens: 33,
    numGroups: 7,
    groupSize: 5,
    groups: { topK: 3, normalize: true },
    experts: { topK: 2 },
    dtype: "bf16",
  },
  {
    tokens: 9,
    numGroups: 3,
    groupSize: 45,
    groups: { topK: 1 },
    experts: { topK: 4, scoring: "sigmoid" },
    dtype: "f16",
  },
  {
    tokens: 21,
    numGroups: 6,
    groupSize: 3,
    groups: { topK: 6 },
    experts: { topK: 3, normalize: true },
    kind: "tied",
  },
  { tokens: 21, numGroups: 5, groupSize: 9, groups: { topK: 2 }, experts: { topK: 3 }, kind: "non_finite" },
  { tokens: 9, numGroups: 5, groupSize: 7, groups: { topK: 2 }, experts: { topK: 2 }, kind: "never_finite" },
  { tokens: 7, numGroups: 1, groupSize: 33, groups: { topK: 1 }, experts: { topK: 5, ...selected } },
  { tokens: 7, numGroups: 33, groupSize: 1, groups: { topK: 5, ...selected }, experts: { topK: 1 } },
  { tokens: 3, numGroups: 40, groupSize: 40, groups: { topK: 4 }, experts: { topK: 6 } },
  { tokens: 0, numGroups: 4, groupSize: 8, groups: { topK: 2 }, experts: { topK: 2 } },
  { tokens: 300, numGroups: 8, groupSize: 8, groups: { topK: 2, scale: 2.5 }, experts: { topK: 2 } },
];

export const hierarchicalGatingCases: readonly Case[] = problems.map(hierarchicalGatingCase);
