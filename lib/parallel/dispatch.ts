import type { FloatDType } from "../core/tensors/dtype.js";
import type { BankFacts } from "./bank_facts.js";
import { type FloatArray, newTokens, type TokensMessage } from "./messages.js";

/** Tokens with their routing, in the memory of JavaScript. */
export interface RoutedTokens {
  readonly dtype: FloatDType;
  readonly weightDType: FloatDType;
  /** k. */
  readonly choices: number;
  /** [T, H], stored bits. */
  readonly tokens: FloatArray;
  /** [T, k]. */
  readonly weights: FloatArray;
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
  const all = Array.from({ length: ids.length / choices }, (_, token) => token);
  if (bank.sharedExperts > 0) return all;
  return all.filter((token) => ids.subarray(token * choices, (token + 1) * choices).some((id) => adds(bank, id)));
}

/** What a bank of a layer needs of these tokens. Choices keep their places, by which the bank's sum is ordered. */
export function messageFor(
  bank: BankFacts,
  layer: number,
  { dtype, weightDType, choices, ...routed }: RoutedTokens,
  rows: readonly number[],
): TokensMessage {
  const { hiddenSize } = bank;
  const message = newTokens({ layer, count: rows.length, choices, dtype, weightDType }, hiddenSize);
  rows.forEach((token, row) => {
    const choicesOf = [token * choices, (token + 1) * choices] as const;
    message.tokens.set(routed.tokens.subarray(token * hiddenSize, (token + 1) * hiddenSize), row * hiddenSize);
    message.weights.set(routed.weights.subarray(...choicesOf), row * choices);
    const ids = routed.ids.subarray(...choicesOf).map((id) => (adds(bank, id) ? id : -1));
    message.ids.set(ids, row * choices);
  });
  return message;
}
