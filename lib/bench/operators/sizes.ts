import { describeLayer } from "../../layer/description/config.js";
import { weightStorage } from "../../layer/description/storage.js";
import { checkGating, gatingRule } from "../../operators/routing/gating_options.js";
import { type CaseOptions, gatingRuleOf } from "../bench_case.js";
import type { OperatorCase, Sizes } from "./operator_case.js";

/** The sizes of calls with this many tokens. */
export function sizesOf(
  { config, dtype, format }: Pick<CaseOptions, "config" | "dtype" | "format">,
  tokens: number,
): Sizes {
  const { hiddenSize, intermediateSize, numExperts, topK } = config;
  const rule = gatingRuleOf(config);
  return {
    ...{ tokens, rows: tokens * topK, hiddenSize, intermediateSize, numExperts, topK, dtype, format, rule },
    description: describeLayer(config, weightStorage(format, { router: dtype })),
    gating: checkGating(gatingRule(rule, "config"), numExperts),
  };
}

/** What a call's inputs are drawn from. */
export const seedOf = ({ name }: Pick<OperatorCase, "name">, { tokens }: Pick<Sizes, "tokens">, index: number) =>
  `${name} T${tokens} ${index}`;
