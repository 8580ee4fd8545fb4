import type { FloatDType } from "../../core/tensors/dtype.js";
import { type ExpertChoiceRule, expertChoice } from "../../operators/routing/expert_choice.js";
import { scores } from "../../reference/routing/scores.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import type { Random } from "../inputs/random.js";
import { round } from "../rounding.js";

interface Problem {
  tokens: number;
  experts: number;
  rule: ExpertChoiceRule;
  dtype?: FloatDType;
  /** How the logits are drawn; default normal. */
  kind?: "normal" | keyof typeof logitKinds;
}

const specials = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

/** Kinds of logits [T, E]. */
const logitKinds = {
  /** Few distinct rows: among equal ones, only the tokens' order decides. */
  tied({ random }: Inputs, tokens: number, experts: number) {
    const rows = [random.normals(experts), random.normals(experts), random.normals(experts)];
    const logits = new Float32Array(tokens * experts);
    for (let token = 0; token < tokens; token++) {
      logits.set(rows[random.integer(0, rows.length - 1)] as Float32Array, token * experts);
    }
    return logits;
  },
  equal: (_: Inputs, tokens: number, experts: number) => new Float32Array(tokens * experts).fill(0.5),
  /** Some entries are NaN or infinite, and every fifth row has no finite one. */
  non_finite({ random }: Inputs, tokens: number, experts: number) {
    return random.normals(tokens * experts).map((logit, index) => {
      const special = specials[random.integer(0, specials.length - 1)] as number;
      return Math.floor(index / experts) % 5 === 0 || random.uniform() < 0.2 ? special : logit;
    });
  },
} as const;

/** Scores of an expert that differ by less may be equal in float32, or the other way round. */
const leastDifference = 1e-6;

/** Normal logits [T, E] whose scores are in the same order in float32. */
function distinctRows(random: Random, { tokens, experts, rule, dtype = "f32" }: Problem): Float32Array {
  const logits = new Float32Array(tokens * experts);
  const earlier: Float64Array[] = [];
  while (earlier.length < tokens) {
    const row = random.normals(experts);
    const own = scores(rule.scoring ?? "softmax", round(row, dtype));
    const isClose = (score: number, other: number) =>
      score !== other && Math.abs(score - other) < leastDifference * Math.max(score, other);
    if (earlier.some((others) => own.some((score, expert) => isClose(score, others[expert] as number)))) continue;
    logits.set(row, earlier.length * experts);
    earlier.push(own);
  }
  return logits;
}

export function expertChoiceCase(problem: Problem): Case {
  const { tokens, experts, rule, dtype = "f32", kind = "normal" } = problem;
  const size = rule.tokens === undefined ? `factor ${rule.factor}` : `${rule.tokens} tokens`;
  return {
    name: `T${tokens} E${experts} ${rule.scoring ?? "softmax"} ${size} of ${kind} ${dtype}`,
    operator: "expertChoice",
    tolerances: { tokenWeights: 3e-6, weights: 3e-6 },
    run(inputs) {
      const logits =
        kind === "normal"
          ? inputs.drawn((random) => distinctRows(random, problem))
          : logitKinds[kind](inputs, tokens, experts);
      return { ...expertChoice(inputs.floats(logits, [tokens, experts], dtype), rule) };
    },
  };
}

export const expertChoiceCases: readonly Case[] = [
  ...(["softmax", "sigmoid"] as const).flatMap((scoring) =>
    (
      [
        { tokens: 33, experts: 8, rule: { factor: 2 } },
        { tokens: 45, experts: 60, rule: { factor: 1.5 }, dtype: "bf16" },
        { tokens: 45, experts: 7, rule: { tokens: 9 }, dtype: "f16" },
        { tokens: 51, experts: 5, rule: { factor: 1 }, kind: "tied" },
        { tokens: 51, experts: 5, rule: { tokens: 20 }, kind: "equal" },
        { tokens: 51, experts: 6, rule: { tokens: 45 }, kind: "non_finite" },
        { tokens: 51, experts: 6, rule: { tokens: 5 }, kind: "non_finite" },
      ] satisfies Problem[]
    ).map((problem) => expertChoiceCase({ ...problem, rule: { ...problem.rule, scoring } })),
  ),
  ...(
    [
      { tokens: 0, experts: 8, rule: { factor: 2 } },
      { tokens: 13, experts: 4, rule: { tokens: 0 } },
      { tokens: 13, experts: 4, rule: { tokens: 13 } },
      { tokens: 13, experts: 4, rule: { tokens: 100 } },
      { tokens: 3, experts: 1, rule: { factor: 1 } },
      { tokens: 1, experts: 5, rule: { factor: 1 } },
      { tokens: 700, experts: 9, rule: { factor: 4 } },
      { tokens: 5, experts: 1100, rule: { factor: 300 } },
    ] satisfies Problem[]
  ).map(expertChoiceCase),
];
