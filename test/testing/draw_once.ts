import { testCases } from "../../lib/testing/index.js";
import { memoized } from "../support/memoized.js";

/**
 * Lets each public case draw its problem, and compute what is expected, once for all subjects of a test file. They can share
 * the inputs: a subject that changes them fails.
 */
export function drawOnce(): void {
  for (const one of testCases) {
    const problem = one.problem.bind(one);
    Object.assign(one, { problem: memoized((seed: number) => problem(seed)) });
  }
}
