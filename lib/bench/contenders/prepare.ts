import { messageOf } from "../../core/errors.js";
import { arraysIn } from "../../testing/subject/arrays.js";
import { operatorOf } from "../../testing/subject/operator_of.js";
import { changedInputs } from "../../testing/subject/returned.js";
import type { Subject, SubjectInputs, SubjectOperatorName } from "../../testing/subject/subject.js";
import { isSupported } from "../../testing/subject/supports.js";
import type { BenchCase } from "../bench_case.js";
import {
  type ContenderCheck,
  type ContenderProblem,
  checkContender,
  compareOutputs,
  type Expected,
  expectedOf,
  type OutputError,
  unsupported,
} from "./check.js";
import { TimedCalls } from "./time.js";

/** A contender that was asked for a case. */
export interface PreparedContender {
  readonly contender: Subject;
  /** What was compared, in words; empty if it was everything. */
  readonly of: string;
  /** The check of its first call. */
  readonly check: ContenderCheck;
  /** Undefined unless it is to be timed. */
  readonly timed: TimedCalls | undefined;
}

/** All contenders of a case. */
export interface Prepared {
  /** The errors of our own first call; null if there was nothing to compare with. */
  readonly ours: readonly OutputError[] | null;
  /** Those that have the operator. */
  readonly contenders: readonly PreparedContender[];
  /**
   * Checks the timed ones once more, on other numbers in the same arrays: what was right at first need not be so after many
   * calls, and results that were kept are not those of these numbers.
   */
  finish(): Promise<void>;
}

/** Checks the first call of every contender that has the operator, and of ours. */
export async function prepareContenders(benchCase: BenchCase, contenders: readonly Subject[]): Promise<Prepared> {
  const { operator, incomparable } = benchCase;
  const able = contenders.filter((contender) => operatorOf(contender, operator) !== undefined);
  if (able.length === 0) return withoutTimes([]);
  if (incomparable !== null) return withoutTimes(able.map((one) => notAsked(one, leftOut(incomparable))));
  const problem = { operator, calls: benchCase.contenderCalls() };
  const asked: { contender: Subject; refusal: ContenderCheck | null }[] = [];
  for (const contender of able) asked.push({ contender, refusal: await refusalOf(contender, problem) });
  if (asked.every(({ refusal }) => refusal !== null)) {
    return withoutTimes(asked.flatMap(({ contender, refusal }) => (refusal ? notAsked(contender, refusal) : [])));
  }
  const drawn = new DrawnCalls(benchCase, problem, await expectedOf(problem));
  const checked: { contender: Subject; check: ContenderCheck }[] = [];
  for (const { contender, refusal } of asked) {
    const check = refusal ?? (await checkContender(contender, drawn.expected));
    checked.push({ contender, check });
    if (!isRight(check)) drawn.restore();
  }
  const { expected, calls } = drawn;
  const prepared = checked.map(({ contender, check }): PreparedContender => {
    const run = isRight(check) ? operatorOf(contender, operator) : undefined;
    const of = check.errors.length > 0 ? expected.sample.text : "";
    return { contender, of, check, timed: run && new TimedCalls(run, calls) };
  });
  const ours = compareOutputs(expected, await benchCase.firstOutputs());
  return { ours, contenders: prepared, finish: () => checkAgain(prepared, drawn) };
}

async function checkAgain(prepared: readonly PreparedContender[], drawn: DrawnCalls): Promise<void> {
  const ranked = prepared.flatMap(({ contender, timed }) => (timed?.end === null ? [{ contender, timed }] : []));
  const isAlone = prepared.filter(({ timed }) => timed !== undefined).length === 1;
  const changed = drawn.restore();
  if (changed !== null) {
    const who = isAlone ? "it" : "a contender";
    const failure = `in the timed calls ${who} changed the input ${changed}`;
    for (const { timed } of ranked) timed.stop({ failure, leftOut: null });
    return;
  }
  if (ranked.length > 0) await drawn.renumber();
  for (const { contender, timed } of ranked) {
    const check = await checkContender(contender, drawn.expected);
    if (isRight(check)) continue;
    const { failure, leftOut } = check;
    timed.stop({ failure: failure && `after the timed calls: ${failure}`, leftOut });
    drawn.restore();
  }
}

/** Whether a contender gave what is expected, and left its inputs as they were. */
const isRight = ({ failure, leftOut }: ContenderCheck): boolean => failure === null && leftOut === null;

function withoutTimes(contenders: readonly PreparedContender[]): Prepared {
  return { ours: null, contenders, finish: async () => {} };
}

/** The calls of a case, which are drawn anew if a contender has changed them: the next one must get the same numbers. */
class DrawnCalls {
  readonly #benchCase: BenchCase;
  calls: readonly SubjectInputs[];
  expected: Expected;
  #isRenumbered = false;

  constructor(benchCase: BenchCase, { calls }: ContenderProblem, expected: Expected) {
    this.#benchCase = benchCase;
    this.calls = calls;
    this.expected = expected;
  }

  /** @returns what had changed, in words; null if nothing had. */
  restore(): string | null {
    const changed = changedInputs(this.expected.digests, this.expected.inputs);
    if (changed === null) return null;
    this.calls = this.#benchCase.contenderCalls(true);
    if (this.#isRenumbered) renumberFirst(this.calls);
    this.expected = { ...this.expected, inputs: this.calls[0] as SubjectInputs };
    return changed;
  }

  /** Gives the first call the numbers of the second. */
  async renumber(): Promise<void> {
    this.#isRenumbered = true;
    renumberFirst(this.calls);
    this.expected = await expectedOf({ operator: this.expected.operator, calls: this.calls });
  }
}

/** Copies the second call's numbers into the arrays of the first, but for weights, of which contenders may keep what they prepared. */
function renumberFirst([first, second]: readonly SubjectInputs[]): void {
  const others = new Map(arraysIn(second));
  for (const [path, { data }] of arraysIn(first)) {
    const other = others.get(path);
    if (other !== undefined && !/^weights?(\.|$)/.test(path)) data.set(other.data);
  }
}

/** Why a contender is not asked for a case; null if it is. */
async function refusalOf(contender: Subject, { operator, calls }: ContenderProblem): Promise<ContenderCheck | null> {
  try {
    const isAble = await isSupported(contender, operator as SubjectOperatorName, calls[0] as SubjectInputs);
    return isAble ? null : leftOut(unsupported);
  } catch (error) {
    return { errors: [], failure: messageOf(error), leftOut: null };
  }
}

function leftOut(why: string): ContenderCheck {
  return { errors: [], failure: null, leftOut: why };
}

function notAsked(contender: Subject, check: ContenderCheck): PreparedContender {
  return { contender, of: "", check, timed: undefined };
}
