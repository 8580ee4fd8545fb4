import { invalidArgument } from "../../core/errors.js";
import { checkBank, type ExpertRange } from "../../core/layer/expert_range.js";

/** How many experts a layer's router scores, and how many of them, the last ones, return their input. */
interface ExpertCounts {
  readonly numExperts: number;
  readonly identityExperts?: number | undefined;
}

/**
 * How many experts have weights: the first ones.
 * @throws INVALID_ARGUMENT if there are none.
 */
export function expertsWithWeights({ numExperts, identityExperts = 0 }: ExpertCounts): number {
  if (identityExperts < numExperts) return numExperts - identityExperts;
  throw invalidArgument("identityExperts", `fewer than numExperts ${numExperts}`, identityExperts);
}

/** Checks a bank of a layer's experts; the default is all that have weights. */
export function checkedBank(bank: ExpertRange | undefined, counts: ExpertCounts): ExpertRange {
  return checkBank(bank, expertsWithWeights(counts));
}

/** Whether a layer adds what its identity experts return: of all banks, that which begins with expert 0 does. */
export function addsIdentity(layer: { readonly identityExperts: number; readonly bank: ExpertRange }): boolean {
  return layer.identityExperts > 0 && layer.bank.first === 0;
}
