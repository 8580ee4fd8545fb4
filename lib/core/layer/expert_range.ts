import { unexpected } from "../errors.js";
import { type Fields, integer, object } from "../input/options.js";

/** Experts first .. first + count - 1. */
export interface ExpertRange {
  /** The lowest expert id. */
  readonly first: number;
  /** How many experts. */
  readonly count: number;
}

export const bankOption = object(
  { first: integer(0), count: integer(1) } satisfies Fields<ExpertRange>,
  "{ first: 0, count: 8 }",
);

/** Checks a bank against the number of all experts; the default is all experts. */
export function checkBank(bank: ExpertRange | undefined, numExperts: number): ExpertRange {
  if (bank === undefined) return { first: 0, count: numExperts };
  const { first, count } = bank;
  if (first + count <= numExperts) return { first, count };
  throw unexpected("bank", `experts within 0 to ${numExperts - 1}`, `${first} to ${first + count - 1}`);
}
