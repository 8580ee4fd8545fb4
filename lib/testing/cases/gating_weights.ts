import type { GatingRuleOptions } from "../../operators/routing/gating_options.js";
import { gatingWeights } from "../../operators/routing/gating_weights.js";
import type { Case } from "../case.js";
import type { Random } from "../inputs/random.js";
import { formulaOf, formulas, type GatingProblem, logitKinds, rules } from "./gating.js";

interface Problem extends Omit<GatingProblem, "bias"> {
  /** Whether some choices are dropped, id -1, and others there twice. */
  odd?: boolean;
}

export function gatingWeightsCase(problem: Problem): Case {
  const { tokens, experts, kind = "normal", dtype = "f32", odd = false, ...rule } = problem;
  const shape = [tokens, rule.topK];
  return {
    name: `T${tokens} E${experts} k${rule.topK} ${formulaOf(problem)} of ${kind} ${dtype}${odd ? ", some dropped or twice" : ""}`,
    operator: "gatingWeights",
    tolerances: { weights: 3e-6 },
    run(inputs) {
      const { random } = inputs;
      const logits = new Float32Array(tokens * experts);
      const ids = new Int32Array(tokens * rule.topK);
      for (let token = 0; token < tokens; token++) {
        const row = logitKinds[kind](random, experts);
        logits.set(row, token * experts);
        ids.set(choices(random, row, rule.topK, odd), token * rule.topK);
      }
      const given = { ids: inputs.integers(ids, shape) };
      return { weights: gatingWeights(inputs.floats(logits, [tokens, experts], dtype), given, rule) };
    },
  };
}

/** Any experts, but the best among them: of others alone, every score may be too small for float32. */
function choices(random: Random, row: Float32Array, topK: number, odd: boolean): readonly number[] {
  const best = row.reduce((at, logit, expert) => (logit > (row[at] as number) ? expert : at), 0);
  const others = random.sample(topK, row.length).filter((expert) => expert !== best);
  const chosen = [best, ...others].slice(0, topK);
  if (!odd) return chosen;
  return chosen.map((id, slot) => {
    const draw = random.uniform();
    return slot > 0 && draw < 0.3 ? -1 : slot > 1 && draw < 0.5 ? (chosen[slot - 1] as number) : id;
  });
}

export const gatingWeightsCases: readonly Case[] = [
  ...formulas.flatMap((formula) => [
    gatingWeightsCase({ tokens: 13, experts: 8, topK: 2, ...formula }),
    gatingWeightsCase({ tokens: 5, experts: 160, topK: 6, dtype: "bf16", odd: true, ...formula }),
    gatingWeightsCase({ tokens: 33, experts: 12, topK: 5, kind: "non_finite", ...formula }),
    gatingWeightsCase({ tokens: 7, experts: 33, topK: 3, kind: "extreme", ...formula }),
    gatingWeightsCase({ tokens: 9, experts: 16, topK: 4, kind: "never_finite", ...formula }),
  ]),
  ...rules.flatMap(({ bias, ...rule }: GatingRuleOptions & { bias?: boolean }) => [
    gatingWeightsCase({ tokens: 19, experts: 60, ...rule }),
    gatingWeightsCase({ tokens: 19, experts: 60, odd: true, ...rule }),
    gatingWeightsCase({ tokens: 3, experts: 1104, dtype: "f16", ...rule }),
    gatingWeightsCase({ tokens: 7, experts: 24, kind: "tied", dtype: "bf16", ...rule }),
  ]),
  ...(
    [
      { tokens: 0, experts: 8, topK: 2 },
      { tokens: 3, experts: 1, topK: 1, normalize: true },
      { tokens: 4, experts: 33, topK: 33, normalize: true },
      { tokens: 300, experts: 64, topK: 8, odd: true },
    ] satisfies Problem[]
  ).map(gatingWeightsCase),
];
