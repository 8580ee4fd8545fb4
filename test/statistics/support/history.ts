import { type RouterHistory, routerHistory } from "../../../lib/statistics/router_history.js";

/** A history of calls with the given tokens per expert; each token has one choice and an entropy of 1. */
export function historyOf(calls: readonly (readonly number[])[]): RouterHistory {
  const tokens = calls.map((counts) => counts.reduce((a, b) => a + b, 0));
  return routerHistory(
    tokens.map(() => 1),
    {
      counts: Float64Array.from(calls.flat()),
      dropped: new Float64Array(calls.length),
      tokens: Float64Array.from(tokens),
      entropy: Float64Array.from(tokens),
      importance: new Float64Array(calls[0]?.length ?? 2),
    },
  );
}
