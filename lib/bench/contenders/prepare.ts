import { messageOf } from "../../core/errors.js";
import { operatorOf } from "../../testing/subject/operator_of.js";
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
  readonly name: string;
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
}

/** Checks the first call of every contender that has the operator, and of ours. */
export async function prepareContenders(benchCase: BenchCase, contenders: readonly Subject[]): Promise<Prepared> {
  const { operator, incomparable } = benchCase;
  const able = contenders.filter((contender) => operatorOf(contender, operator) !== undefined);
  if (able.length === 0) return { ours: null, contenders: [] };
  if (incomparable !== null) return { ours: null, contenders: able.map((one) => notAsked(one, leftOut(incomparable))) };
  const problem = { operator, calls: benchCase.contenderCalls() };
  const asked: { contender: Subject; refusal: ContenderCheck | null }[] = [];
  for (const contender of able) asked.push({ contender, refusal: await refusalOf(contender, problem) });
  if (asked.every(({ refusal }) => refusal !== null)) {
    const refused = asked.flatMap(({ contender, refusal }) => (refusal ? notAsked(contender, refusal) : []));
    return { ours: null, contenders: refused };
  }
  const expected = await expectedOf(problem);
  const prepared: PreparedContender[] = [];
  for (const { contender, refusal } of asked) {
    prepared.push(refusal ? notAsked(contender, refusal) : await prepare(contender, problem, expected));
  }
  return { ours: compareOutputs(expected, await benchCase.firstOutputs()), contenders: prepared };
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

async function prepare(
  contender: Subject,
  { operator, calls }: ContenderProblem,
  expected: Expected,
): Promise<PreparedContender> {
  const check = await checkContender(contender, expected);
  const isTimed = check.failure === null && check.leftOut === null;
  const run = isTimed ? operatorOf(contender, operator) : undefined;
  const timed = run && new TimedCalls(run, calls);
  return { name: contender.name, of: expected.sample.text, check, timed };
}

function leftOut(why: string): ContenderCheck {
  return { errors: [], failure: null, leftOut: why };
}

function notAsked({ name }: Subject, check: ContenderCheck): PreparedContender {
  return { name, of: "", check, timed: undefined };
}
