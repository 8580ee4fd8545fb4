import { checkGating, type GatingRuleOptions, gatingRule } from "../../operators/routing/gating_options.js";
import type { Matrix } from "../../reference/core/matrix.js";
import { gating } from "../../reference/routing/gating.js";
import { Random } from "./random.js";
import { isSteady } from "./steady_tokens.js";

/**
 * Router logits [tokens, experts] whose choice of experts rounding errors cannot change: with every logit moved up or down by
 * 1e-4 of the largest, the same experts are chosen in the same order. For comparing kernels that compute scores differently.
 */
export function steadyLogits(
  tokens: number,
  experts: number,
  rule: GatingRuleOptions,
  seed: number | string = 0,
): Float32Array {
  const random = new Random(seed);
  const exact = checkGating(gatingRule(rule, "rule"), experts);
  const logits = new Float32Array(tokens * experts);
  for (let token = 0; token < tokens; ) {
    const row = random.normals(experts, 2);
    const route = (rows: Matrix) => gating(rows, exact, undefined);
    if (isSteady(random, [Float64Array.from(row)], route)) logits.set(row, token++ * experts);
  }
  return logits;
}
