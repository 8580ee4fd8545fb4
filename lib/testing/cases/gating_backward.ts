import { gatingBackward } from "../../operators/routing/gating_backward.js";
import { checkGating, type GatingRuleOptions, gatingRule } from "../../operators/routing/gating_options.js";
import { gating as exactGating } from "../../reference/routing/gating.js";
import type { Case } from "../case.js";
import { round } from "../rounding.js";
import { formulaOf, formulas, type GatingProblem, logitKinds, rules } from "./gating.js";

interface Problem extends Omit<GatingProblem, "bias"> {
  /** Whether some choices are dropped: id -1. */
  dropped?: boolean;
}

export function gatingBackwardCase(problem: Problem): Case {
  const { tokens, experts, kind = "normal", dtype = "f32", dropped = false, ...rule } = problem;
  const shape = [tokens, rule.topK];
  return {
    name: `T${tokens} E${experts} k${rule.topK} ${formulaOf(problem)} of ${kind} ${dtype}${dropped ? ", some dropped" : ""}`,
    operator: "gatingBackward",
    tolerances: { dLogits: 1e-6 },
    // Terms may cancel out.
    magnitudes: { dLogits: rule.scale ?? 1 },
    run(inputs) {
      const { random } = inputs;
      const logits = new Float32Array(tokens * experts);
      for (let token = 0; token < tokens; token++) {
        logits.set(logitKinds[kind](random, experts).map(awayFromZero(rule)), token * experts);
      }
      // The same choice in every run.
      const exactRule = checkGating(gatingRule(rule, "rule"), experts);
      const { ids } = exactGating({ values: round(logits, dtype), rows: tokens, columns: experts }, exactRule);
      const choices = ids.map((id) => (dropped && random.uniform() < 0.3 ? -1 : id));
      const dLogits = gatingBackward(
        inputs.floats(logits, [tokens, experts], dtype),
        { ids: inputs.integers(choices, shape) },
        inputs.f32Normals(shape),
        rule,
      );
      return { dLogits };
    },
  };
}

/** Logits whose own sum they are divided by: near a sum of zero, gradients and their errors have no bound. */
function awayFromZero({ scoring, normalize }: GatingRuleOptions): (logit: number) => number {
  if (scoring !== "none" || !normalize) return (logit) => logit;
  const signs = typeof normalize === "object" && normalize.by === "lp";
  return (logit) => (1 + Math.abs(logit)) * (signs && logit < 0 ? -1 : 1);
}

export const gatingBackwardCases: readonly Case[] = [
  ...formulas.flatMap((formula) => [
    gatingBackwardCase({ tokens: 13, experts: 8, topK: 2, ...formula }),
    gatingBackwardCase({ tokens: 5, experts: 160, topK: 6, dtype: "bf16", dropped: true, ...formula }),
    gatingBackwardCase({ tokens: 33, experts: 12, topK: 5, kind: "non_finite", ...formula }),
    gatingBackwardCase({ tokens: 7, experts: 33, topK: 3, kind: "extreme", ...formula }),
    gatingBackwardCase({ tokens: 9, experts: 16, topK: 4, kind: "never_finite", ...formula }),
  ]),
  ...rules.flatMap(({ bias, ...rule }: GatingRuleOptions & { bias?: boolean }) => [
    gatingBackwardCase({ tokens: 19, experts: 60, ...rule }),
    gatingBackwardCase({ tokens: 19, experts: 60, dropped: true, ...rule }),
    gatingBackwardCase({ tokens: 7, experts: 24, kind: "tied", dtype: "bf16", ...rule }),
    gatingBackwardCase({ tokens: 5, experts: 36, kind: "non_finite", dtype: "f16", ...rule }),
  ]),
  ...(
    [
      { tokens: 0, experts: 8, topK: 2 },
      { tokens: 3, experts: 1, topK: 1 },
      { tokens: 3, experts: 1, topK: 1, normalize: true },
      { tokens: 4, experts: 33, topK: 33, normalize: true },
      { tokens: 300, experts: 64, topK: 8, dropped: true },
      { tokens: 2, experts: 1100, topK: 22, scoring: "sigmoid", normalize: true },
      { tokens: 2, experts: 70, topK: 70, scoring: "softmax_selected", normalize: { by: "lp", power: 2 } },
    ] satisfies Problem[]
  ).map(gatingBackwardCase),
];
