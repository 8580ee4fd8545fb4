import { describe, messageOf } from "../../core/errors.js";
import { settled } from "../../testing/subject/settled.js";
import type { SubjectInputs, UntypedOperator } from "../../testing/subject/subject.js";
import { rotation } from "../bench_case.js";
import type { CallTimes } from "../measure.js";
import { type ContenderCheck, unsupported } from "./check.js";

/** Why a contender's calls are not ranked. */
type CallsEnd = Pick<ContenderCheck, "failure" | "leftOut">;

/** A contender's timed calls, each on the next inputs, until one of them fails. */
export class TimedCalls {
  readonly #run: UntypedOperator;
  readonly #next: () => SubjectInputs;
  #end: CallsEnd | null = null;

  constructor(run: UntypedOperator, calls: readonly SubjectInputs[]) {
    this.#run = run;
    this.#next = rotation(calls);
  }

  /** Why there are no more calls; null while all have gone well. */
  get end(): CallsEnd | null {
    return this.#end;
  }

  /** Makes no more calls, for a reason that was found elsewhere. */
  stop(end: CallsEnd): void {
    this.#end = end;
  }

  /** Makes calls for this many seconds, at least one call. */
  async turn(seconds: number): Promise<CallTimes[]> {
    const times: CallTimes[] = [];
    try {
      // All calls together: what watches over a promise takes time.
      await settled(this.#calls(seconds, times));
    } catch (error) {
      this.#end = { failure: `in a timed call: ${messageOf(error)}`, leftOut: null };
    }
    return times;
  }

  async #calls(seconds: number, times: CallTimes[]): Promise<void> {
    const begin = performance.now();
    while (this.#end === null) {
      const one = await this.#call();
      if (one === null) this.#end = { failure: null, leftOut: unsupported };
      else times.push(one);
      if (performance.now() - begin >= seconds * 1e3) break;
    }
  }

  /** From the call until it has returned results; null if it does not support the call. */
  async #call(): Promise<CallTimes | null> {
    const inputs = this.#next();
    const run = this.#run;
    const start = performance.now();
    const result = run(inputs);
    const returned = performance.now();
    const outputs = isPromise(result) ? await result : result;
    const end = performance.now();
    if (outputs === null) return null;
    if (typeof outputs !== "object") throw new Error(`expected an object with the outputs, got ${describe(outputs)}`);
    return { total: (end - start) / 1e3, call: (returned - start) / 1e3, device: null };
  }
}

/** To wait for what is there already would be timed too. */
function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | null)?.then === "function";
}
