import { cannotCombine, unexpected } from "../../core/errors.js";
import { type Fields, integer, object, optional, type Read } from "../../core/input/options.js";
import type { ExpertRange } from "../../core/layer/expert_range.js";
import { type RmsNormNumbers, rmsNormFields } from "../../operators/experts/rms_norm.js";

/** Routed experts that work on a projection of the tokens, which the router and the shared expert read as they are. */
export interface LatentConfig {
  /** L, the width of the tokens that the routed experts read, and of their outputs. */
  size: number;
  /** An RMSNorm of the sum of a token's experts, by `latentNormWeight`, before it is projected back; default none. */
  norm?: Pick<RmsNormNumbers, "epsilon"> | undefined;
}

const latentNorm = object(
  { epsilon: rmsNormFields.epsilon } satisfies Fields<NonNullable<LatentConfig["norm"]>>,
  "{ epsilon: 1e-5 }",
);
export const latentOption = object(
  { size: integer(1), norm: optional(latentNorm) } satisfies Fields<LatentConfig>,
  "{ size: 1024 }",
);

/** A checked {@link LatentConfig}. */
export interface Latent {
  /** L */
  readonly size: number;
  /** Undefined without a norm. */
  readonly norm:
    | {
        /** Added to the mean of the squares. */
        readonly epsilon: number;
      }
    | undefined;
}

interface LatentRule {
  readonly latent?: Read<typeof latentOption> | undefined;
  readonly numExperts: number;
  readonly identityExperts: number;
  readonly sharedExpert?: { readonly gate: string } | undefined;
}

/** Checks what goes with experts on a projection. */
export function checkLatent(
  { latent, numExperts, identityExperts, sharedExpert }: LatentRule,
  bank: ExpertRange,
): Latent | undefined {
  if (latent === undefined) return undefined;
  const { size, norm } = latent;
  if (sharedExpert?.gate === "softmax") throw cannotCombine('sharedExpert.gate "softmax"', "latent");
  if (identityExperts > 0) throw cannotCombine("identityExperts", "latent");
  checkNormalisedBank(latent, numExperts, bank);
  return { size, norm };
}

/** Checks that a layer whose experts' sum is normalised has all of them. */
export function checkNormalisedBank(
  latent: Pick<LatentConfig, "norm"> | undefined,
  numExperts: number,
  bank: ExpertRange,
): void {
  if (latent?.norm === undefined || bank.count === numExperts) return;
  const expected = `all ${numExperts} experts for latent.norm, which normalises their sum`;
  throw unexpected("bank", expected, `${bank.count}; a layer with this norm cannot be divided into banks`);
}
