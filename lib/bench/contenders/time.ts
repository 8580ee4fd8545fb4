import type { SubjectInputs, SubjectOperator } from "../../testing/subject/subject.js";
import { rotation } from "../bench_case.js";
import type { CallTimes } from "../measure.js";

/** Returns what makes calls of a contender for a while, each on the next inputs: from the call until it has returned results. */
export function contenderTurns(run: SubjectOperator, calls: readonly SubjectInputs[]) {
  const next = rotation(calls);
  return async (seconds: number): Promise<CallTimes[]> => {
    const times: CallTimes[] = [];
    const begin = performance.now();
    do {
      const inputs = next();
      const start = performance.now();
      const result = run(inputs);
      const returned = performance.now();
      if (result !== null && "then" in result) await result;
      const end = performance.now();
      times.push({ total: (end - start) / 1e3, call: (returned - start) / 1e3, device: null });
    } while (performance.now() - begin < seconds * 1e3);
    return times;
  };
}
