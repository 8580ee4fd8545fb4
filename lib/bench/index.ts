/**
 * What `moe-kernels bench` measures, for programs: times of layers and operators, and this machine's ceilings.
 *
 * @module moe-kernels/bench
 */

export type { BuildInfo, Ceilings, CpuInfo, MissingIsa, ProductKernel } from "../core/addon/native.js";
export type {
  OperatorName,
  OperatorTable,
  Subject,
  SubjectInputs,
  SubjectInputTable,
  SubjectOperator,
  SubjectOperatorName,
  SubjectOperators,
  SubjectOutput,
  SubjectOutputTable,
} from "../testing/index.js";
export { type CeilingOptions, measureCeilings } from "./ceilings.js";
export { type ComparedCase, type Comparison, compareReports } from "./compare.js";
export type { OutputError } from "./contenders/check.js";
export type { Machine } from "./machine.js";
export type { Measurement } from "./measure.js";
export type { BenchDType } from "./operators/draw.js";
export type { BenchmarkOptions, BenchProgress } from "./options.js";
export type { BenchGroup, BenchReport, BenchResult, ContenderResult } from "./report.js";
export { runBenchmark } from "./run.js";
