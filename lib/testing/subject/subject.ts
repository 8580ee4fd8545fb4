import type { SubjectInputTable, SubjectOutputTable } from "./operator_types.js";
import type { SubjectOutput } from "./test_array.js";

export type { OutputArray, SubjectOutput, TestArray } from "./test_array.js";

/**
 * What any operator of a subject gets: tensors, numbers, names and rules by the names of the operator's fields, and in
 * `outputs` the shapes and dtypes of the tensors to return. {@link SubjectInputTable} has the types of each operator's.
 */
// biome-ignore lint/suspicious/noExplicitAny: fields differ between operators.
export type SubjectInputs = { readonly [field: string]: any };

/** What a subject can have: operators of this package, and `layer`, the forward of a whole one. */
export type SubjectOperatorName = keyof SubjectInputTable;

/**
 * Computes one operator: its inputs as one object, its outputs by name, at once or as a promise; or null if it does not support
 * the call, which skips the case.
 */
export type SubjectOperator<Name extends SubjectOperatorName> = (
  inputs: SubjectInputTable[Name],
) => SubjectOutputTable[Name] | null | Promise<SubjectOutputTable[Name] | null>;

/** Some operators by their names. */
export type SubjectOperators = {
  readonly [Name in keyof SubjectInputTable]?: SubjectOperator<Name> | undefined;
};

/** The outputs of one call of any operator. */
export type UntypedOutputs = Readonly<Record<string, SubjectOutput>> | null;

/** Any operator, for inputs that are known to be its own. */
export type UntypedOperator = (inputs: SubjectInputs) => UntypedOutputs | Promise<UntypedOutputs>;

/** What is tested: an object with some of the operators of this package, computed by whatever it likes. */
export interface Subject {
  /** For reports. */
  readonly name: string;
  /** The operators that it has, by their names. */
  readonly operators: SubjectOperators;
  /** Whether it can compute a case of one of its operators; cases that it cannot are skipped and counted. Default: all. */
  supports?(operator: SubjectOperatorName, inputs: SubjectInputs): boolean | Promise<boolean>;
  /** Called once at the end, to free what the subject holds. What it throws becomes a warning: the results are there. */
  close?(): void | Promise<void>;
}

/** One problem: what an operator gets, and what is expected. */
export interface Problem {
  /** The operator to call. */
  readonly operator: SubjectOperatorName;
  /** What it gets. */
  readonly inputs: SubjectInputs;
  /** The outputs that are compared, computed by `reference` in float64 from the inputs as they are rounded. */
  readonly expected: Readonly<Record<string, Float64Array | Int32Array>>;
  /** The names that the case has for the outputs. */
  readonly names: ReadonlyMap<string, string>;
}
