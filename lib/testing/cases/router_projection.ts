import type { FloatDType } from "../../core/tensors/dtype.js";
import { routerProjection } from "../../operators/routing/router_projection.js";
import type { Case } from "../case.js";

interface Problem {
  tokens: number;
  hidden: number;
  experts: number;
  dtypes?: readonly [x: FloatDType, weight: FloatDType];
  bias?: FloatDType;
}

export function routerProjectionCase(problem: Problem): Case {
  const { tokens, hidden, experts, dtypes: [x, weight] = ["f32", "f32"], bias } = problem;
  return {
    name: `T${tokens} H${hidden} E${experts} ${x} x ${weight}${bias ? ` + ${bias}` : ""}`,
    operator: "routerProjection",
    tolerances: { logits: 2e-5 },
    run(inputs) {
      const tokensOf = inputs.normals([tokens, hidden], x);
      const weights = inputs.normals([experts, hidden], weight, hidden ** -0.5);
      const options = bias ? { bias: inputs.normals([experts], bias) } : {};
      return { logits: routerProjection(tokensOf, weights, options) };
    },
  };
}

export const routerProjectionCases: readonly Case[] = [
  ...(["f32", "f16", "bf16"] as const).flatMap((x) =>
    (["f32", "f16", "bf16"] as const).map((weight) =>
      routerProjectionCase({ tokens: 7, hidden: 51, experts: 12, dtypes: [x, weight] }),
    ),
  ),
  ...(
    [
      { tokens: 1, hidden: 1, experts: 1 },
      { tokens: 0, hidden: 64, experts: 8 },
      { tokens: 1, hidden: 2880, experts: 32, dtypes: ["bf16", "bf16"], bias: "bf16" },
      { tokens: 33, hidden: 704, experts: 60 },
      { tokens: 5, hidden: 33, experts: 1100, bias: "f32" },
      { tokens: 130, hidden: 45, experts: 7, bias: "f16" },
      { tokens: 17, hidden: 128, experts: 384, dtypes: ["f16", "f16"] },
      { tokens: 3, hidden: 520, experts: 9, dtypes: ["bf16", "f32"] },
      { tokens: 9, hidden: 1032, experts: 30, dtypes: ["f16", "f32"], bias: "f32" },
      { tokens: 70, hidden: 776, experts: 35, dtypes: ["bf16", "bf16"] },
    ] satisfies Problem[]
  ).map(routerProjectionCase),
];
