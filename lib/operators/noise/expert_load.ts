import { checkInteger, invalidArgument } from "../../core/errors.js";
import { type Fields, object, optional, type Read, unchecked } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import {
  checkExpertCount,
  checkTensor,
  checkTokenMask,
  output,
  type TokenMaskOption,
  tokenMaskField,
} from "../check.js";

/** Options of {@link expertLoad}. */
export interface ExpertLoadOptions extends TokenMaskOption {
  /** Experts that each token chooses; with `groups`, in each of its groups. */
  topK: number;
  /** For hierarchical gating: the E experts form G groups of neighbours, of which each token chose some. */
  groups?:
    | {
        /** [T, k1] i32, each -1 (none) or 0 .. G-1. */
        ids: Tensor<"i32">;
        /** [G] f32, the load of each group. */
        load: Tensor<"f32">;
      }
    | undefined;
  /** Where to write; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const groupsOption = object({ ids: tensor<"i32">(), load: tensor<"f32">() }, "{ ids, load }");
export const loadFields = { topK: unchecked, groups: optional(groupsOption), ...tokenMaskField };
const expertLoadOptions = object(
  { ...loadFields, out: optional(tensor<"f32">()) } satisfies Fields<ExpertLoadOptions>,
  "{ topK: 2 }",
);

/**
 * A smooth estimate of how many tokens each expert gets under noisy top-k gating (Shazeer et al., arXiv 1701.06538,
 * appendix A; tensor2tensor's _prob_in_top_k): load[e] = Σₜ Φ((clean[t, e] - threshold) / deviation[t, e]). Each term
 * is the probability that expert e is among the k best if only its own noise is redrawn. The threshold is the (k+1)-th
 * largest noisy logit of the row if expert e's own is above that, else the k-th. If k = E, every probability is 1.
 *
 * With `groups` (appendix B), ranks and thresholds are within the E / G experts of e's group g, the sum is over the
 * tokens that chose g, and load[e] = groups.load[g] · Σₜ Φ / (the number of these tokens), or 0 if there are none.
 *
 * Φ is computed in float32 by erfc, which stays accurate in the tails. Sums are float64, within blocks of 64 tokens and
 * then over the blocks in order, so they do not depend on the number of threads. A NaN logit ranks lowest. A
 * probability that is NaN (from a NaN logit or equal infinities) counts as 0.
 *
 * @param clean [T, E] f32, logits without noise.
 * @param noisy [T, E] f32, {@link noisyLogits}' logits.
 * @param deviation [T, E] f32, {@link noisyLogits}' deviation.
 * @returns load [E] f32.
 * @throws INVALID_ARGUMENT (topK, a number of groups that does not divide E, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED. A group id out of range is treated as -1 and reported as
 * ID_OUT_OF_RANGE at the next wait.
 */
export function expertLoad(
  clean: Tensor<"f32">,
  noisy: Tensor<"f32">,
  deviation: Tensor<"f32">,
  options: ExpertLoadOptions,
): Tensor<"f32"> {
  const { topK, groups, tokenMask, out, mask } = checkLoad(clean, noisy, deviation, expertLoadOptions, options);
  const { device, shape, dtype } = clean;
  const experts = shape[1] as number;
  const inputs = [clean, noisy, deviation, tokenMask, groups?.ids, groups?.load];
  const load = output("out", out, device, [experts], dtype, inputs);
  device.backend.expertLoad({
    clean: clean.handle,
    noisy: noisy.handle,
    deviation: deviation.handle,
    tokenMask: mask,
    topK,
    groupIds: groups?.ids.handle,
    groupLoad: groups?.load.handle,
    load: load.handle,
  });
  return load;
}

/** What the load and its gradient take. */
const loadOptions = object(loadFields, "{ topK: 2 }");
type LoadOptions = Read<typeof loadOptions>;

/** Checks the logits of a load and reads its options, which may have more fields. */
export function checkLoad<O extends LoadOptions>(
  clean: Tensor<"f32">,
  noisy: Tensor<"f32">,
  deviation: Tensor<"f32">,
  read: (options: unknown, name: string) => O,
  options: unknown,
) {
  checkTensor("clean", clean, "float32", ["T", "E"]);
  const { device, shape, dtype } = clean;
  checkTensor("noisy", noisy, [dtype], shape, device);
  checkTensor("deviation", deviation, [dtype], shape, device);
  const given = read(options, "options");
  const { topK, groups, tokenMask } = given;
  const [tokens, experts] = shape as [number, number];
  checkExpertCount("clean", experts);
  const groupCount = groups === undefined ? 1 : checkGroups(groups, clean, tokens, experts);
  checkInteger("topK", topK, 1, experts / groupCount);
  return { ...given, topK, mask: checkTokenMask(tokenMask, tokens, device) };
}

/** Checks the groups and returns their number. */
function checkGroups(
  groups: Read<typeof groupsOption>,
  { device, dtype }: Tensor<"f32">,
  tokens: number,
  experts: number,
): number {
  checkTensor("groups.ids", groups.ids, ["i32"], [tokens, "k1"], device);
  checkTensor("groups.load", groups.load, [dtype], ["G"], device);
  const count = groups.load.size;
  if (count < 1 || experts % count !== 0) {
    throw invalidArgument("groups.load", `one entry per group, a divisor of ${experts} experts`, count);
  }
  return count;
}
