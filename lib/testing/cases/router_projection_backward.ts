import type { FloatDType } from "../../core/tensors/dtype.js";
import { routerProjectionBackward } from "../../operators/routing/router_projection_backward.js";
import type { Case } from "../case.js";
import { unitRoundoff } from "../rounding.js";

interface Problem {
  tokens: number;
  hidden: number;
  experts: number;
  dtypes?: readonly [x: FloatDType, weight: FloatDType];
  bias?: boolean;
  /** The dtype of dx; default that of x. */
  dxDType?: FloatDType;
}

export function routerProjectionBackwardCase(problem: Problem): Case {
  const { tokens, hidden, experts, dtypes: [x, weight] = ["f32", "f32"], bias = false, dxDType } = problem;
  const withBias = bias ? " with bias" : "";
  return {
    name: `T${tokens} H${hidden} E${experts} ${x} x ${weight}${withBias}${dxDType ? ` to ${dxDType}` : ""}`,
    operator: "routerProjectionBackward",
    tolerances: { dx: 5e-6 + unitRoundoff[dxDType ?? x], dWeight: 5e-6, dBias: 1e-6 },
    run(inputs) {
      const given = [
        inputs.normals([tokens, hidden], x),
        inputs.normals([experts, hidden], weight, hidden ** -0.5),
        inputs.f32Normals([tokens, experts]),
      ] as const;
      const results = () => ({
        dx: inputs.empty([tokens, hidden], dxDType as FloatDType),
        dWeight: inputs.f32Empty([experts, hidden]),
        ...(bias && { dBias: inputs.f32Empty([experts]) }),
      });
      return { ...routerProjectionBackward(...given, { bias, ...(dxDType && { out: results() }) }) };
    },
  };
}

export const routerProjectionBackwardCases: readonly Case[] = [
  ...(["f32", "f16", "bf16"] as const).flatMap((x) =>
    (["f32", "f16", "bf16"] as const).map((weight) =>
      routerProjectionBackwardCase({ tokens: 71, hidden: 51, experts: 12, dtypes: [x, weight] }),
    ),
  ),
  ...(
    [
      { tokens: 1, hidden: 1, experts: 1 },
      { tokens: 0, hidden: 64, experts: 8, bias: true },
      { tokens: 5, hidden: 0, experts: 8, bias: true },
      { tokens: 3, hidden: 1030, experts: 32, dtypes: ["bf16", "bf16"], bias: true },
      { tokens: 3, hidden: 8, experts: 4, dtypes: ["bf16", "f16"], bias: true, dxDType: "f32" },
      { tokens: 5, hidden: 33, experts: 1100, bias: true },
      { tokens: 1300, hidden: 20, experts: 7, bias: true },
      { tokens: 64, hidden: 128, experts: 65, dtypes: ["f16", "f16"] },
    ] satisfies Problem[]
  ).map(routerProjectionBackwardCase),
];
