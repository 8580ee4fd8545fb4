/** What went wrong, for programs. Every error that a user can meet carries one of these. */
export type MoeErrorCode =
  /** An argument has a value that the operator cannot work with. */
  | "INVALID_ARGUMENT"
  /** A tensor has another rank or size than the operator needs. */
  | "SHAPE_MISMATCH"
  /** A tensor's dtype, or a pair of dtypes, that the operator or device does not support. */
  | "UNSUPPORTED_DTYPE"
  /** Tensors, or a tensor and a layer, that live on different devices. */
  | "DEVICE_MISMATCH"
  /** A device that this machine or this build does not have. */
  | "DEVICE_UNAVAILABLE"
  /** A device that cannot do this operation yet. */
  | "UNSUPPORTED_OPERATION"
  /** A tensor, layer or device used after `dispose()`. */
  | "DISPOSED"
  /** The device has not enough memory. The process lives on. */
  | "OUT_OF_MEMORY"
  /** An expert id outside -1 .. E-1; reported at the next wait. */
  | "ID_OUT_OF_RANGE"
  /** A file or directory that is no valid checkpoint, or that cannot be read or written. */
  | "BAD_CHECKPOINT"
  /** The native addon is missing or cannot be loaded. */
  | "NOT_BUILT"
  /** The CUDA runtime or driver reported an error. */
  | "CUDA_ERROR"
  /** A defect in this package. */
  | "INTERNAL";

/** The one error class of this package. `message` says what was expected, what came and what to do. */
export class MoeError extends Error {
  override readonly name = "MoeError";
  readonly code: MoeErrorCode;

  constructor(code: MoeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Whether `error` is a {@link MoeError}, and one of `codes` where any are given. */
export function isMoeError(error: unknown, ...codes: MoeErrorCode[]): error is MoeError {
  return error instanceof MoeError && (codes.length === 0 || codes.includes(error.code));
}

/** Describes a value for an error message, in one short line. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `function ${value.name || "(anonymous)"}`;
  if (Array.isArray(value)) return `array of length ${value.length}`;
  if (typeof value === "object" && value !== null) return value.constructor?.name ?? "object";
  return String(value);
}

/** An INVALID_ARGUMENT error that names the parameter, what was expected and what came. */
export function invalidArgument(parameter: string, expected: string, actual: unknown): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${parameter}: expected ${expected}, got ${describe(actual)}`);
}

/** An INVALID_ARGUMENT error for an argument that makes no sense beside another: "jitter cannot be combined with noisy". */
export function cannotCombine(parameter: string, other: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${parameter} cannot be combined with ${other}`);
}

/** An INVALID_ARGUMENT error for an argument that makes sense only beside another: "noiseRouter requires noisy". */
export function requires(parameter: string, other: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${parameter} requires ${other}`);
}

/** Checks that `value` is an integer of at least `minimum` and at most `maximum`. */
export function checkInteger(
  parameter: string,
  value: unknown,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): asserts value is number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < minimum || value > maximum) {
    const range = maximum === Number.MAX_SAFE_INTEGER ? `>= ${minimum}` : `from ${minimum} to ${maximum}`;
    throw invalidArgument(parameter, `an integer ${range}`, value);
  }
}

/** Checks that `value` is one of the strings of `choices`. */
export function checkChoice<const T extends string>(
  parameter: string,
  value: unknown,
  choices: readonly T[],
): asserts value is T {
  if (!choices.includes(value as T)) {
    throw invalidArgument(parameter, `one of ${choices.map((choice) => `"${choice}"`).join(", ")}`, value);
  }
}
