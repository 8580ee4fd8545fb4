/** What a router did in some calls. */
export interface RouterSummary {
  readonly calls: number;
  readonly tokens: number;
  /** How many experts were asked for: the sum of T * k. */
  readonly choices: number;
  /** How many of them had no expert, id -1. */
  readonly dropped: number;
  /** [E] */
  readonly tokensPerExpert: readonly number[];
  /** The mean over the tokens of the entropy of the router's softmax, natural logarithm; 0 without tokens. */
  readonly meanEntropy: number;
  /** The fullest expert's tokens / the mean - 1; 0 without tokens. */
  readonly maximumViolation: number;
}

/** What a router did, in all calls and in windows of consecutive ones. */
export interface RouterHistory extends RouterSummary {
  /** [E]: the sum of each expert's weights, where they were recorded. */
  readonly importance: readonly number[];
  /** All of the same number of calls, but for the last, which may have fewer. */
  readonly windows: readonly RouterSummary[];
}

/** What is known of a window without asking the device. */
export type WindowSize = Pick<RouterSummary, "calls" | "tokens" | "choices">;

/** The totals as the device has them: counts and entropy of every window, one after another. */
interface Totals {
  readonly counts: Float64Array;
  /** The sum over the tokens. */
  readonly entropy: Float64Array;
  readonly importance: Float64Array;
}

export function routerHistory(sizes: readonly WindowSize[], { counts, entropy, importance }: Totals): RouterHistory {
  const experts = importance.length;
  const windowCounts = sizes.map((_, window) => Array.from(counts.subarray(window * experts, (window + 1) * experts)));
  const sum = (values: Iterable<number>) => Array.from(values).reduce((a, b) => a + b, 0);
  const all: WindowSize = {
    calls: sum(sizes.map(({ calls }) => calls)),
    tokens: sum(sizes.map(({ tokens }) => tokens)),
    choices: sum(sizes.map(({ choices }) => choices)),
  };
  const allCounts = Array.from(importance, (_, expert) => sum(windowCounts.map((window) => window[expert] as number)));
  return {
    ...summary(all, allCounts, sum(entropy)),
    importance: Array.from(importance),
    windows: sizes.map((size, window) => summary(size, windowCounts[window] as number[], entropy[window] as number)),
  };
}

function summary(size: WindowSize, tokensPerExpert: number[], entropy: number): RouterSummary {
  const chosen = tokensPerExpert.reduce((a, b) => a + b, 0);
  const mean = chosen / tokensPerExpert.length;
  return {
    ...size,
    dropped: size.choices - chosen,
    tokensPerExpert,
    meanEntropy: size.tokens === 0 ? 0 : entropy / size.tokens,
    maximumViolation: mean === 0 ? 0 : tokensPerExpert.reduce((a, b) => Math.max(a, b)) / mean - 1,
  };
}
