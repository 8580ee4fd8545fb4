import type { Subject, SubjectInputs, SubjectOperator } from "../../testing/subject/subject.js";
import type { BenchCase } from "../bench_case.js";
import type { CallTimes } from "../measure.js";
import {
  type ContenderCheck,
  checkContender,
  compareOutputs,
  expectedOf,
  type OutputError,
  unsupported,
} from "./check.js";
import { contenderTurns } from "./time.js";

/** A contender whose first call was checked. */
export interface PreparedContender {
  readonly name: string;
  /** What was compared, in words; empty if it was everything. */
  readonly of: string;
  readonly check: ContenderCheck;
  /** Makes calls for so many seconds; undefined unless it is to be timed. */
  readonly turn: ((seconds: number) => Promise<CallTimes[]>) | undefined;
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
  const able = contenders.filter(({ operators }) => operators[operator] !== undefined);
  const leftOut = ({ name }: Subject, why: string): PreparedContender => ({
    ...{ name, of: "", turn: undefined },
    check: { errors: [], failure: null, leftOut: why },
  });
  if (able.length === 0) return { ours: null, contenders: [] };
  if (incomparable !== null) return { ours: null, contenders: able.map((one) => leftOut(one, incomparable)) };
  const calls = benchCase.contenderCalls();
  const supports = (one: Subject) => one.supports?.(operator, calls[0] as SubjectInputs) !== false;
  if (!able.some(supports)) return { ours: null, contenders: able.map((one) => leftOut(one, unsupported)) };
  const expected = await expectedOf({ operator, calls });
  const prepared: PreparedContender[] = [];
  for (const contender of able) {
    if (!supports(contender)) {
      prepared.push(leftOut(contender, unsupported));
      continue;
    }
    const check = await checkContender(contender, expected);
    const isTimed = check.failure === null && check.leftOut === null;
    const turn = isTimed ? contenderTurns(contender.operators[operator] as SubjectOperator, calls) : undefined;
    prepared.push({ name: contender.name, of: expected.sample.text, check, turn });
  }
  return { ours: compareOutputs(expected, await benchCase.firstOutputs()), contenders: prepared };
}
