import { joinWindows, type RouterHistory, type RouterSummary } from "../router_history.js";

/** Heat map cells of a layer beyond which a page gets large. */
const maximumCells = 32_768;
const maximumSteps = 128;

/** One router of a report. */
export interface ReportedRouter {
  /** What the page calls it, such as "layer 3". */
  name: string;
  /** From RouterStats.read(). */
  history: RouterHistory;
  /** What the layer computes in, such as "bf16". */
  dtype?: string | undefined;
}

/** Consecutive calls that a report shows as one, or all of them. */
export interface Step {
  /** Number of the first call. */
  readonly first: number;
  readonly calls: number;
  readonly tokens: number;
  readonly choices: number;
  readonly dropped: number;
  readonly violation: number;
  readonly entropy: number;
  /** [E] tokens per expert */
  readonly counts: readonly number[];
}

/** A router as the page's script gets it. */
export interface RouterSteps {
  readonly name: string;
  readonly all: Step;
  readonly steps: readonly Step[];
}

/** A router's history in as many steps as a page can show. */
export function routerSteps({ name, history }: ReportedRouter): RouterSteps {
  const windows = stepsOf(history);
  return { name, all: step(history, 0), steps: windows.map((window) => step(window, window.firstCall)) };
}

/** Consecutive calls of a router's history. */
export interface ChartWindow extends RouterSummary {
  /** The number of its first call. */
  readonly firstCall: number;
}

/** The windows of a history, merged to as many as a chart can show. */
export function stepsOf({ windows, tokensPerExpert }: RouterHistory): ChartWindow[] {
  const most = Math.max(1, Math.min(maximumSteps, Math.floor(maximumCells / tokensPerExpert.length)));
  let calls = 0;
  return joinWindows(windows, most).map((window) => {
    const firstCall = calls;
    calls += window.calls;
    return { ...window, firstCall };
  });
}

function step(summary: RouterSummary, first: number): Step {
  const { calls, tokens, choices, dropped, maximumViolation, meanEntropy, tokensPerExpert: counts } = summary;
  return { first, calls, tokens, choices, dropped, violation: maximumViolation, entropy: meanEntropy, counts };
}

/**
 * Mean and largest of the steps' maximum violations. The mean is weighted by the choices that got an expert, which makes it an
 * upper bound of the maximum violation of all calls together.
 */
export function violationOfSteps(steps: readonly Step[]): { readonly mean: number; readonly largest: number } {
  const weights = steps.map(({ choices, dropped }) => choices - dropped);
  const weight = weights.reduce((a, b) => a + b, 0);
  const sum = steps.reduce((all, { violation }, index) => all + violation * (weights[index] as number), 0);
  const largest = steps.reduce((most, { violation }) => Math.max(most, violation), 0);
  return { mean: weight === 0 ? 0 : sum / weight, largest };
}
