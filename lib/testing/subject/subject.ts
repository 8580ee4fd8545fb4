import type { OperatorName } from "../../core/operators/table.js";
import type { Shape } from "../../core/shape.js";

/** A tensor that a subject gets, row-major. */
export interface TestArray {
  /** The stored bits: 16-bit floats are a Uint16Array, which `toFloat32` converts. */
  readonly data: Float32Array | Uint16Array | Int32Array | Uint8Array;
  /** The sizes, row-major. */
  readonly shape: Shape;
  /** The type of the elements. */
  readonly dtype: "f32" | "f16" | "bf16" | "i32" | "u8";
}

/** A tensor that a subject returns. */
export interface OutputArray {
  /** The sizes to return, row-major. */
  readonly shape: Shape;
  /** The dtype to return. */
  readonly dtype: string;
}

/**
 * What a subject's operator gets: tensors, numbers, names and rules by the names of the operator's fields, and in `outputs`
 * the shapes and dtypes of the tensors to return. Optional tensors that are not used are left out.
 */
// biome-ignore lint/suspicious/noExplicitAny: fields differ between operators; a subject knows those of its own.
export type SubjectInputs = { readonly [field: string]: any };

/** An output: values, or for 16-bit floats their bits as a Uint16Array. */
export type SubjectOutput = ArrayLike<number>;

/** The outputs of one call by their names; null if the call is not supported, which skips the case. */
export type SubjectOutputs = Readonly<Record<string, SubjectOutput>> | null;

/** Computes one operator: its inputs as one object, its outputs by name, at once or as a promise. */
export type SubjectOperator = (inputs: SubjectInputs) => SubjectOutputs | Promise<SubjectOutputs>;

/** What a subject can have: operators of this package, and `layer`, the forward of a whole one. */
export type SubjectOperatorName = OperatorName | "layer";

/** What is tested: an object with some of the operators of this package, computed by whatever it likes. */
export interface Subject {
  /** For reports. */
  readonly name: string;
  /** The operators that it has, by their names. */
  readonly operators: Readonly<Partial<Record<SubjectOperatorName, SubjectOperator>>>;
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
