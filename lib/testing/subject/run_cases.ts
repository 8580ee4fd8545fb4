import { invalidArgument, messageOf } from "../../core/errors.js";
import { attempt } from "../../core/input/foreign.js";
import {
  callback,
  type Fields,
  integer,
  object,
  optional,
  positive,
  type Read,
  type Reader,
} from "../../core/input/options.js";
import type { Shape } from "../../core/tensors/shape.js";
import { caseContains } from "../case_filter.js";
import { callText, type Difference, differenceOf, sameAgain } from "../difference.js";
import { closeSubjects } from "./close.js";
import { operatorOf } from "./operator_of.js";
import { changedInputs, inputDigests, returnedValues } from "./returned.js";
import { defaultTimeout, type Patience, settled } from "./settled.js";
import type { OutputArray, Problem, Subject } from "./subject.js";
import { isSupported } from "./supports.js";
import { type TestCase, testCases, testedOperators } from "./test_cases.js";

/** One output of a case, compared. */
export interface SubjectCheck extends Difference {
  /** The output's name. */
  readonly output: string;
  /** Its dtype. */
  readonly dtype: string;
  /** Its sizes. */
  readonly shape: Shape;
  /** The largest error that passes; 0: exact. */
  readonly tolerance: number;
  /** The reason for the tolerance, in words. */
  readonly why: string;
  /** Whether the error is within the tolerance. */
  readonly passed: boolean;
}

/** What a subject did with one case. */
export interface SubjectResult {
  /** The operator that was called. */
  readonly operator: string;
  /** What the case is: sizes, dtypes, options. */
  readonly name: string;
  /** One for each output. */
  readonly checks: readonly SubjectCheck[];
  /** Why there are no checks, or what else went wrong: the subject threw, or returned something else; else null. */
  readonly failure: string | null;
  /** Whether all checks passed, without a failure. */
  readonly passed: boolean;
  /** How long the case took, with the computation of what is expected. */
  readonly seconds: number;
}

/** What {@link runCases} found. */
export interface SubjectReport {
  /** The subject's name. */
  readonly subject: string;
  /** That of the inputs. */
  readonly seed: number;
  /** Whether cases ran, and none failed. */
  readonly passed: boolean;
  /** How long the whole run took. */
  readonly seconds: number;
  /** One for each case that ran. */
  readonly results: readonly SubjectResult[];
  /** Cases that the subject said it does not support. */
  readonly skipped: readonly Pick<SubjectResult, "operator" | "name">[];
  /** Operators with cases that the subject does not have. */
  readonly untested: readonly string[];
}

/** Options of {@link runCases}. */
export interface RunCasesOptions {
  /**
   * Only cases whose operator and name contain this text, such as "groupedGemm" or "T7 E33", or for which this function is
   * true.
   */
  filter?: string | ((testCase: TestCase) => boolean) | undefined;
  /** Other numbers of the same shapes; default 0, those that `verify` compares the devices with. */
  seed?: number | undefined;
  /** How often each case is computed; every call must give the same values. Default 1. */
  repeat?: number | undefined;
  /**
   * Seconds that each promise of the subject is waited for; default 900. If one does not settle in time, its case and all
   * after it have failed: what it waits for may still be at work.
   */
  timeout?: number | undefined;
  /** Called after each case that is not skipped. */
  onResult?: ((result: SubjectResult, done: number, total: number) => void) | undefined;
}

const filter: Reader<NonNullable<RunCasesOptions["filter"]>> = (value, name) => {
  if (typeof value === "string") return value;
  if (typeof value === "function") return value as (testCase: TestCase) => boolean;
  throw invalidArgument(name, "text or a function", value);
};

const runCasesOptions = object(
  {
    filter: optional(filter, ""),
    seed: optional(integer(Number.MIN_SAFE_INTEGER), 0),
    repeat: optional(integer(1), 1),
    timeout: optional(positive, defaultTimeout),
    onResult: optional(callback<NonNullable<RunCasesOptions["onResult"]>>()),
  } satisfies Fields<RunCasesOptions>,
  '{ filter: "gating" }',
);

/**
 * Runs the cases of all operators that a subject has, one after another, and compares its outputs with those of `reference` in
 * float64. What the subject throws or returns wrongly is a failed case, and so is a promise that does not settle.
 * @throws INVALID_ARGUMENT for a subject without operators, with an operator that does not exist, or if no case is selected.
 */
export async function runCases(subject: Subject, options: RunCasesOptions = {}): Promise<SubjectReport> {
  checkSubject(subject);
  let seconds = defaultTimeout;
  try {
    const given = runCasesOptions(options, "options");
    seconds = given.timeout;
    return await runSelected(subject, given);
  } finally {
    await closeSubjects([subject], { seconds });
  }
}

async function runSelected(
  subject: Subject,
  { filter, seed, repeat, timeout, onResult }: Read<typeof runCasesOptions>,
): Promise<SubjectReport> {
  const wanted = typeof filter === "function" ? filter : (one: TestCase) => caseContains(one, filter);
  const selected = testCases.filter((one) => subject.operators[one.operator] !== undefined && wanted(one));
  if (selected.length === 0) {
    throw invalidArgument("filter", `text in a case of ${Object.keys(subject.operators).join(", ")}`, filter);
  }
  const begin = performance.now();
  const results: SubjectResult[] = [];
  const skipped: { operator: string; name: string }[] = [];
  const patience: Patience = { seconds: timeout };
  for (const one of selected) {
    const { operator, name } = one;
    const result = await runOne(subject, one, { seed, repeat, patience });
    if (result === null) {
      skipped.push({ operator, name });
      continue;
    }
    results.push(result);
    onResult?.(result, results.length + skipped.length, selected.length);
  }
  return {
    subject: subject.name,
    seed,
    passed: results.length > 0 && results.every(({ passed }) => passed),
    seconds: (performance.now() - begin) / 1e3,
    results,
    skipped,
    untested: testedOperators.filter((name) => subject.operators[name] === undefined),
  };
}

/** @throws INVALID_ARGUMENT unless it is a subject. */
export function checkSubject(subject: unknown): asserts subject is Subject {
  const { name, operators } = attempt("subject", () => {
    const { name, operators } = (subject ?? {}) as { name?: unknown; operators?: unknown };
    return { name, operators };
  });
  if (typeof name !== "string") throw invalidArgument("subject.name", "a string", name);
  if (typeof operators !== "object" || operators === null) {
    throw invalidArgument("subject.operators", "an object of functions, such as { gating(inputs) { ... } }", operators);
  }
  // Those of a class are not its own.
  const given = attempt("subject.operators", () => {
    const names: ReadonlySet<string> = new Set([...testedOperators, ...Object.keys(operators)]);
    return [...names].map(
      (operator) => [operator, (operators as { readonly [name: string]: unknown })[operator]] as const,
    );
  }).filter(([, run]) => run !== undefined);
  if (given.length === 0) throw invalidArgument("subject.operators", "at least one operator", operators);
  for (const [operator, run] of given) {
    if (!(testedOperators as readonly string[]).includes(operator)) {
      throw invalidArgument("subject.operators", `names among ${testedOperators.join(", ")}`, operator);
    }
    if (typeof run !== "function") throw invalidArgument(`subject.operators.${operator}`, "a function", run);
  }
}

/** @returns null if the subject does not support the case. */
async function runOne(
  subject: Subject,
  one: TestCase,
  { seed, repeat, patience }: { readonly seed: number; readonly repeat: number; readonly patience: Patience },
): Promise<SubjectResult | null> {
  const begin = performance.now();
  const { operator, name } = one;
  const checks: SubjectCheck[] = [];
  const finish = (failure: string | null): SubjectResult => {
    const passed = failure === null && checks.length > 0 && checks.every((check) => check.passed);
    return { operator, name, checks, failure, passed, seconds: (performance.now() - begin) / 1e3 };
  };
  if (patience.end !== undefined) return finish(`not asked, because in an earlier case ${patience.end}`);
  const problem = one.problem(seed);
  try {
    const { inputs } = problem;
    if (!(await isSupported(subject, operator, inputs, patience))) return null;
    const judged = judgedOutputs(one, problem);
    const before = inputDigests(inputs);
    for (let call = 1; call <= repeat; call++) {
      const outputs: unknown = await settled(operatorOf(subject, operator)?.(inputs), patience);
      if (outputs === null) return null;
      const changed = changedInputs(before, inputs);
      if (changed !== null) return finish(`it changed its input ${changed}`);
      for (const output of judged) checks.push(output.check(outputs, call));
    }
    return finish(null);
  } catch (error) {
    return finish(messageOf(error));
  }
}

/** What is compared: every output with what is expected, and in later calls with the first. */
function judgedOutputs(one: TestCase, problem: Problem) {
  return Object.entries(problem.expected).map(([output, expected]) => {
    const { shape, dtype } = problem.inputs.outputs[output] as OutputArray;
    const { tolerance, leastMagnitude, why } = one.toleranceOf(output, problem);
    let first: Float64Array;
    return {
      check(outputs: unknown, call: number): SubjectCheck {
        const values = returnedValues(outputs, output, { shape, dtype });
        if (call === 1) {
          // The next call may use its memory again.
          first = Float64Array.from(values);
          const difference = differenceOf(values, expected, { shape, tolerance, leastMagnitude });
          return { output, dtype, shape, ...difference, tolerance, why, passed: difference.error <= tolerance };
        }
        const difference = differenceOf(values, first, { shape, tolerance: 0 });
        const again = { ...difference, tolerance: 0, why: sameAgain, passed: difference.error === 0 };
        return { output: callText(output, call), dtype, shape, ...again };
      },
    };
  });
}
