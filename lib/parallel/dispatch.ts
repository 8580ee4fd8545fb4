import { dtypes, type FloatDType } from "../core/tensors/dtype.js";
import type { BankFacts } from "./bank_facts.js";
import type { TokensForBank } from "./messages.js";

/** Tokens with their routing, in the memory of JavaScript. */
export interface RoutedTokens {
  readonly dtype: FloatDType;
  readonly weightDType: FloatDType;
  /** k. */
  readonly choices: number;
  /** H. */
  readonly hiddenSize: number;
  /** [T, H], stored bits. */
  readonly tokens: TokensForBank["tokens"];
  /** [T, k]. */
  readonly weights: TokensForBank["weights"];
  /** [T, k]. */
  readonly ids: Int32Array;
}

/** Whether a bank has the expert, or adds what it gives: the bank with expert 0 does so for those that return their input. */
function adds({ first, count, numExperts, identityExperts }: BankFacts, id: number): boolean {
  return (id >= first && id < first + count) || (first === 0 && id >= numExperts - identityExperts && id < numExperts);
}

/**
 * The tokens that a bank gets, in ascending order: those with a choice of its experts, or all of them if it has a shared expert.
 * Each goes once, however many of the bank's experts it chose.
 */
export function tokensOfBank(bank: BankFacts, { ids, choices }: RoutedTokens): number[] {
  const count = ids.length / choices;
  const all = Array.from({ length: count }, (_, token) => token);
  if (bank.sharedExperts > 0) return all;
  return all.filter((token) => ids.subarray(token * choices, (token + 1) * choices).some((id) => adds(bank, id)));
}

/** What a bank needs of these tokens. Choices keep their places, by which the bank's sum is ordered. */
export function forBank(bank: BankFacts, routed: RoutedTokens, rows: readonly number[]): Omit<TokensForBank, "layer"> {
  const { dtype, weightDType, choices, hiddenSize } = routed;
  const { length: count } = rows;
  const tokens = gathered(routed.tokens, hiddenSize, dtype, rows);
  const weights = gathered(routed.weights, choices, weightDType, rows);
  const ids = new Int32Array(count * choices);
  rows.forEach((token, row) => {
    for (let choice = 0; choice < choices; choice++) {
      const id = routed.ids[token * choices + choice] as number;
      ids[row * choices + choice] = adds(bank, id) ? id : -1;
    }
  });
  return { count, choices, dtype, weightDType, tokens, weights, ids };
}

function gathered(
  from: TokensForBank["tokens"],
  width: number,
  dtype: FloatDType,
  rows: readonly number[],
): TokensForBank["tokens"] {
  const to = new dtypes[dtype].raw(rows.length * width) as TokensForBank["tokens"];
  rows.forEach((token, row) => {
    to.set(from.subarray(token * width, (token + 1) * width), row * width);
  });
  return to;
}
