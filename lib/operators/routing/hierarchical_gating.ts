import { MoeError, unexpected } from "../../core/errors.js";
import { type Fields, object, optional } from "../../core/input/options.js";
import type { Gating } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkExpertCount, checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import { type Routing, routingRecord } from "./gating.js";
import { checkGating, type GatingRule, type GatingRuleOptions, gatingRule } from "./gating_options.js";

/** Options of {@link hierarchicalGating}. */
export interface HierarchicalGatingOptions {
  /** Rule of the first gate, which chooses topK of the G groups. */
  groups: GatingRuleOptions;
  /** Rule of the second gate, which chooses topK of the E / G experts of each chosen group. */
  experts: GatingRuleOptions;
  /** Where to write; default new tensors. */
  out?: Routing | undefined;
}

const hierarchicalOptions = object(
  {
    groups: gatingRule,
    experts: gatingRule,
    out: optional(routingRecord),
  } satisfies Fields<HierarchicalGatingOptions>,
  "{ groups: { topK: 1 }, experts: { topK: 2 } }",
);

/**
 * Hierarchical gating (arXiv 1701.06538, appendix B): a first gate chooses k1 of G groups of neighbouring experts, a
 * second gate chooses k2 of the E / G experts of each chosen group, and an expert's weight is the product of both. For
 * the noisy form, give both gates logits from {@link noisyLogits}; {@link expertLoad} computes the load of the experts,
 * {@link expertTotals} their importance.
 *
 * Each gate works as {@link gating} does, including ties and logits that are not finite. A row without any finite
 * logit, in either gate, is counted in `device.warnings.nonFiniteLogitRows`.
 *
 * @param groupLogits [T, G] f32, f16 or bf16.
 * @param logits [T, E] f32, f16 or bf16; G divides E, and experts g * E/G .. (g+1) * E/G - 1 are group g.
 * @returns ids [T, k1 * k2] i32 and weights f32, ordered by the rank of the group, then of the expert within it.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function hierarchicalGating(
  groupLogits: Tensor<FloatDType>,
  logits: Tensor<FloatDType>,
  options: HierarchicalGatingOptions,
): Routing {
  checkTensor("groupLogits", groupLogits, "float", ["T", "G"]);
  const { device } = groupLogits;
  checkTensor("logits", logits, "float", [groupLogits.shape[0] as number, "E"], device);
  const given = hierarchicalOptions(options, "options");
  const { groups, experts } = checkGates(groupLogits, logits, given);
  return chooseByGroups(groupLogits, logits, groups, experts, given.out);
}

/** Checks that the logits go together, and the rules of both gates with them. */
export function checkGates(
  groupLogits: Tensor<FloatDType>,
  logits: Tensor<FloatDType>,
  rules: { groups: GatingRule; experts: GatingRule },
): { groups: Gating; experts: Gating } {
  const numGroups = groupLogits.shape[1] as number;
  const numExperts = logits.shape[1] as number;
  if (numGroups < 1 || numExperts % numGroups !== 0) {
    const expected = `a number of experts that is a multiple of the ${numGroups} groups`;
    throw new MoeError("SHAPE_MISMATCH", `logits: expected ${expected}, got ${numExperts}`);
  }
  checkExpertCount("logits", numExperts);
  const groups = checkGating(rules.groups, numGroups, "groups.");
  const experts = checkGating(rules.experts, numExperts / numGroups, "experts.");
  if ((logits.dtype === "f64") !== (groupLogits.dtype === "f64")) {
    const expected = groupLogits.dtype === "f64" ? "f64" : "f32, f16 or bf16";
    throw new MoeError("UNSUPPORTED_DTYPE", `logits: expected ${expected} to match groupLogits, got ${logits.dtype}`);
  }
  return { groups, experts };
}

/** {@link hierarchicalGating} with checked logits and rules. */
export function chooseByGroups(
  groupLogits: Tensor<FloatDType>,
  logits: Tensor<FloatDType>,
  groups: Gating,
  experts: Gating,
  out?: Routing,
): Routing {
  const { device } = groupLogits;
  const [tokens, numGroups] = groupLogits.shape as [number, number];
  if (tokens * Math.max(numGroups, groups.topK * experts.topK) >= 2 ** 31) {
    throw unexpected("groupLogits", "fewer than 2^31 (token, group) pairs and slots", `${tokens} tokens`);
  }
  const shape = [tokens, groups.topK * experts.topK];
  using outputs = new Outputs(device, [groupLogits, logits]);
  const ids = outputs.next("out.ids", out?.ids, shape, "i32");
  const weights = outputs.next("out.weights", out?.weights, shape, resultDType(logits));
  device.backend.hierarchicalGating({
    groupLogits: groupLogits.handle,
    logits: logits.handle,
    ids: ids.handle,
    weights: weights.handle,
    groups,
    experts,
  });
  return outputs.returned({ ids, weights });
}
