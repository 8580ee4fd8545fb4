import { invalidArgument, unexpected } from "../../core/errors.js";
import { choice, type Fields, object, optional, results } from "../../core/input/options.js";
import { type ExpertScoring, expertScorings } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import {
  type CapacityAmount,
  type CapacitySize,
  capacityOf,
  capacitySizeFields,
  checkCapacitySize,
} from "./capacity.js";
import type { Routing } from "./gating.js";

/** How experts choose their tokens. */
export interface ExpertChoiceRule extends CapacitySize {
  /** How a token's logits become scores for the experts: `softmax` (default) or `sigmoid`. */
  scoring?: ExpertScoring | undefined;
}

/** The tokens of every expert, also in the form of a routing. */
export interface ExpertChoice extends Routing {
  /** [E, C] i32, the tokens of each expert in descending order of their score. */
  readonly tokens: Tensor<"i32">;
  /** [E, C] f32, their scores. */
  readonly tokenWeights: Tensor<"f32">;
  /** [T, E] i32: e in column e if expert e took the token, else -1. */
  readonly ids: Tensor<"i32">;
  /** [T, E] f32: the score if the expert took the token, else 0. */
  readonly weights: Tensor<"f32">;
}

/** Options of {@link expertChoice}. */
export interface ExpertChoiceOptions extends ExpertChoiceRule {
  /** Where to write; default new tensors. */
  out?: ExpertChoice | undefined;
}

const expertChoiceOptions = object(
  {
    ...capacitySizeFields,
    scoring: optional(choice(expertScorings), "softmax"),
    out: optional(
      results({
        tokens: tensor<"i32">(),
        tokenWeights: tensor<"f32">(),
        ids: tensor<"i32">(),
        weights: tensor<"f32">(),
      }),
    ),
  } satisfies Fields<ExpertChoiceOptions>,
  "{ factor: 2 }",
);

/**
 * Expert choice (arXiv 2202.09368): every expert takes the C tokens with the highest scores for it, so all experts have
 * the same load, and a token may have any number of experts, from none to all. C is `tokens`, or factor * T / E rounded
 * up by default; at most T. The weights are the scores.
 *
 * Scores are computed in float32; ties go to the lower token. A NaN logit ranks last and has weight 0. All weights of a
 * token without any finite logit are 0; such tokens are counted in `device.warnings.nonFiniteLogitRows`. `ids` and
 * `weights` are a routing that `layer.forward` accepts.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT (an option out of its range, T*E >= 2^31, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function expertChoice(logits: Tensor<FloatDType>, options: ExpertChoiceOptions): ExpertChoice {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const given = expertChoiceOptions(options, "options");
  checkCapacitySize(given);
  return chooseTokens(logits, given, given.scoring, given.out);
}

/** {@link expertChoice} with a checked rule. */
export function chooseTokens(
  logits: Tensor<FloatDType>,
  amount: CapacityAmount,
  scoring: ExpertScoring,
  out?: Partial<ExpertChoice>,
): ExpertChoice {
  const { device, shape, size } = logits;
  const [numTokens, numExperts] = shape as [number, number];
  if (numExperts < 1) throw unexpected("logits", "at least one expert", `shape [${shape.join(", ")}]`);
  if (size >= 2 ** 31) throw invalidArgument("logits", "fewer than 2^31 (token, expert) pairs", size);
  const capacity = tokensOfExpert(amount, numTokens, numExperts);
  const dtype = resultDType(logits);
  const places = [numExperts, capacity];
  using outputs = new Outputs(device, [logits]);
  const tokens = outputs.next("out.tokens", out?.tokens, places, "i32");
  const tokenWeights = outputs.next("out.tokenWeights", out?.tokenWeights, places, dtype);
  const ids = outputs.next("out.ids", out?.ids, shape, "i32");
  const weights = outputs.next("out.weights", out?.weights, shape, dtype);
  device.backend.expertChoice({
    logits: logits.handle,
    tokens: tokens.handle,
    tokenWeights: tokenWeights.handle,
    ids: ids.handle,
    weights: weights.handle,
    scoring,
  });
  return outputs.returned({ tokens, tokenWeights, ids, weights });
}

/** C: how many of the tokens each expert takes. */
export function tokensOfExpert(amount: CapacityAmount, numTokens: number, numExperts: number): number {
  return Math.min(capacityOf(amount, numTokens, 1, numExperts), numTokens);
}
