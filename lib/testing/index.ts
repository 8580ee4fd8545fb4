/**
 * The cases that this package's devices are tested with, for other implementations.
 *
 * @module moe-kernels/testing
 */

export type { OperatorName, OperatorTable } from "../core/operators/table.js";
export { type Difference, relativeError, type WorstValue } from "./difference.js";
export { Random } from "./inputs/random.js";
export { randomLayer, randomTokens } from "./inputs/random_layer.js";
export { steadyLogits } from "./inputs/steady_logits.js";
export { poisoned } from "./poison.js";
export { formatReport, type ReportFormat } from "./reports/report.js";
export { round, unitRoundoff } from "./rounding.js";
export { toFloat32 } from "./subject/arrays.js";
export { deviceSubject } from "./subject/device_subject.js";
export type { LayerInputs, SubjectInputTable, SubjectOutputTable, TestWeight } from "./subject/operator_types.js";
export { type ProcessSubjectOptions, processSubject } from "./subject/process_subject.js";
export {
  type RunCasesOptions,
  runCases,
  type SubjectCheck,
  type SubjectReport,
  type SubjectResult,
} from "./subject/run_cases.js";
export type {
  OutputArray,
  Problem,
  Subject,
  SubjectInputs,
  SubjectOperator,
  SubjectOperatorName,
  SubjectOperators,
  SubjectOutput,
  TestArray,
} from "./subject/subject.js";
export { type TestCase, type Tolerance, testCases, testedOperators } from "./subject/test_cases.js";
