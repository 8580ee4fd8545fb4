import { invalidArgument, unexpected } from "../core/errors.js";
import { type Fields, integer, list, number, type Reader, results } from "../core/input/options.js";

/** What a router did over some calls. */
export interface RouterSummary {
  /** Calls of `record`. */
  readonly calls: number;
  /** Tokens of these calls, without masked ones. */
  readonly tokens: number;
  /** Expert choices made: the sum of T * k. */
  readonly choices: number;
  /** Choices without an expert (id -1). */
  readonly dropped: number;
  /** [E] */
  readonly tokensPerExpert: readonly number[];
  /** Mean over the tokens of the router softmax's entropy, in nats; 0 without tokens. */
  readonly meanEntropy: number;
  /** Tokens of the fullest expert / mean - 1; 0 without tokens. */
  readonly maximumViolation: number;
}

/** What a router did, over all calls and in windows of consecutive calls. */
export interface RouterHistory extends RouterSummary {
  /** [E], the sum of each expert's weights, if they were recorded. */
  readonly importance: readonly number[];
  /** All have the same number of calls, except that the last may have fewer. */
  readonly windows: readonly RouterSummary[];
}

const count = integer(0);
const anyNumber = number(() => true, "a number");
const summaryFields = {
  calls: count,
  tokens: count,
  choices: count,
  dropped: count,
  tokensPerExpert: list(count),
  meanEntropy: anyNumber,
  maximumViolation: anyNumber,
} satisfies Fields<RouterSummary>;
const recordedHistory = results({
  ...summaryFields,
  importance: list(anyNumber),
  windows: list(results(summaryFields)),
} satisfies Fields<RouterHistory>);

/** A history that the user passes: that of at least one expert, the same in all windows. */
export const historyArgument: Reader<RouterHistory> = (value, name) => {
  const history = recordedHistory(value, name);
  const experts = history.tokensPerExpert.length;
  if (experts === 0) throw unexpected(`${name}.tokensPerExpert`, "at least one expert", "none");
  history.windows.forEach(({ tokensPerExpert }, index) => {
    if (tokensPerExpert.length === experts) return;
    const place = `${name}.windows[${index}].tokensPerExpert`;
    throw invalidArgument(place, `the history's ${experts} experts`, tokensPerExpert.length);
  });
  return history;
};

type WindowSize = Pick<RouterSummary, "calls" | "tokens" | "choices">;

/** The device's totals: one row per window, and the importance over all windows. */
export interface RouterTotals {
  /** [W, E] tokens per expert */
  readonly counts: Float64Array;
  /** [W] choices without an expert */
  readonly dropped: Float64Array;
  /** [W] */
  readonly tokens: Float64Array;
  /** [W], the sum over the tokens */
  readonly entropy: Float64Array;
  /** [E] */
  readonly importance: Float64Array;
}

/** The history of windows with these numbers of calls. */
export function routerHistory(calls: readonly number[], totals: RouterTotals): RouterHistory {
  const { counts, dropped, tokens, entropy, importance } = totals;
  const experts = importance.length;
  const windowCounts = calls.map((_, window) => Array.from(counts.subarray(window * experts, (window + 1) * experts)));
  const sum = (values: Iterable<number>) => Array.from(values).reduce((a, b) => a + b, 0);
  const sizes = calls.map(
    (ofWindow, window): WindowSize => ({
      calls: ofWindow,
      tokens: tokens[window] as number,
      choices: sum(windowCounts[window] as number[]) + (dropped[window] as number),
    }),
  );
  const all: WindowSize = {
    calls: sum(calls),
    tokens: sum(tokens),
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

/** The same windows, merged in equal groups of neighbours to at most `maximum`. */
export function joinWindows(windows: readonly RouterSummary[], maximum: number): RouterSummary[] {
  const group = Math.ceil(windows.length / maximum);
  return Array.from({ length: Math.ceil(windows.length / Math.max(1, group)) }, (_, index) => {
    const members = windows.slice(index * group, (index + 1) * group);
    const sum = (value: (window: RouterSummary) => number) => members.reduce((all, window) => all + value(window), 0);
    const size = {
      calls: sum(({ calls }) => calls),
      tokens: sum(({ tokens }) => tokens),
      choices: sum(({ choices }) => choices),
    };
    const counts = (members[0] as RouterSummary).tokensPerExpert.map((_, expert) =>
      sum(({ tokensPerExpert }) => tokensPerExpert[expert] as number),
    );
    return summary(
      size,
      counts,
      sum(({ meanEntropy, tokens }) => meanEntropy * tokens),
    );
  });
}

/** Each expert's tokens as a multiple of the mean: all 1 if balanced, 0 without tokens. */
export function relativeLoad({ tokensPerExpert }: RouterSummary): number[] {
  const mean = tokensPerExpert.reduce((a, b) => a + b, 0) / tokensPerExpert.length;
  return tokensPerExpert.map((count) => (mean === 0 ? 0 : count / mean));
}
