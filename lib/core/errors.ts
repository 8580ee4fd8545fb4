import { types } from "node:util";
import { printable } from "./text/printable.js";

/** What went wrong, for programs. Every error of this package carries one of these. */
export type MoeErrorCode =
  /** An argument whose value is out of range or makes no sense. */
  | "INVALID_ARGUMENT"
  /** A tensor of the wrong rank or size. */
  | "SHAPE_MISMATCH"
  /** A dtype, or a combination of dtypes, that the operator or device does not support. */
  | "UNSUPPORTED_DTYPE"
  /** Tensors, or a tensor and a layer, on different devices. */
  | "DEVICE_MISMATCH"
  /** A device that this machine or this build does not have. */
  | "DEVICE_UNAVAILABLE"
  /** Something that the device, or a layer, cannot compute yet. */
  | "UNSUPPORTED_OPERATION"
  /** A tensor, layer, file or device used after it was disposed of. */
  | "DISPOSED"
  /** Results of work that an AbortSignal cancelled before it began. */
  | "ABORTED"
  /** Not enough memory, or the system starts no more threads. The process keeps running. */
  | "OUT_OF_MEMORY"
  /** An index in a tensor's data that is out of range; reported at the next wait. */
  | "ID_OUT_OF_RANGE"
  /** A file or directory that is not a valid checkpoint, or that cannot be read. */
  | "BAD_CHECKPOINT"
  /** A file that cannot be written: its folder is missing or protected, or the disk is full. */
  | "WRITE_FAILED"
  /** A process with banks of experts that cannot be reached, has ended, or is none. */
  | "CONNECTION_FAILED"
  /** The native addon is missing or cannot be loaded. */
  | "NOT_BUILT"
  /** The CUDA runtime or driver reported an error. */
  | "CUDA_ERROR"
  /** A defect in this package. */
  | "INTERNAL";

/** Characters of the longest message; what was given can be a file's or a program's own text, of any length. */
const longestMessage = 4096;

/** The only error class of this package. `message` says what was expected, what was given and what to do. */
export class MoeError extends Error {
  /** Always `MoeError`. */
  override readonly name = "MoeError";
  /** What went wrong, for programs. */
  readonly code: MoeErrorCode;

  constructor(code: MoeErrorCode, message: string, options?: ErrorOptions) {
    super(shortened(typeof message === "string" ? message : describe(message), longestMessage), options);
    this.code = code;
  }
}

/** Both ends of a text, and how much was left out between them if it is longer than `longest`. */
function shortened(text: string, longest: number): string {
  if (text.length <= longest) return text;
  const half = Math.floor(longest / 2) - 32;
  return `${text.slice(0, half)} ... (${text.length - 2 * half} characters left out) ... ${text.slice(-half)}`;
}

/** Whether `error` is a {@link MoeError}, with one of `codes` if any are given. Never throws. */
export function isMoeError(error: unknown): error is MoeError;
export function isMoeError<C extends MoeErrorCode>(
  error: unknown,
  ...codes: C[]
): error is MoeError & {
  /** One of `codes`. */
  readonly code: C;
};
export function isMoeError(error: unknown, ...codes: MoeErrorCode[]): error is MoeError {
  // `instanceof` throws for a revoked proxy.
  return types.isNativeError(error) && error instanceof MoeError && (codes.length === 0 || codes.includes(error.code));
}

/** Describes a value for an error message, in one short line. Throws for no value, whatever its getters do. */
export function describe(value: unknown): string {
  try {
    return descriptionOf(value);
  } catch {
    return `a value that cannot be described, of type ${typeof value}`;
  }
}

/** What was thrown by code that is not this package's, in words. */
export function messageOf(thrown: unknown): string {
  const message: unknown = types.isNativeError(thrown) ? thrown.message : thrown;
  return typeof message === "string" && message !== "" ? message : describe(thrown);
}

function descriptionOf(value: unknown): string {
  if (typeof value === "string") return printable(JSON.stringify(short(value)));
  if (typeof value === "bigint") return BigInt.asIntN(129, value) === value ? `${value}n` : "a bigint of over 128 bits";
  if (typeof value === "function") return `function ${printable(short(value.name)) || "(anonymous)"}`;
  if (Array.isArray(value)) return `array of length ${value.length}`;
  // Parsed JSON may have fields called constructor and name.
  if (typeof value === "object" && value !== null) {
    return typeof value.constructor === "function" ? printable(short(value.constructor.name)) || "object" : "object";
  }
  return short(String(value));
}

function short(text: unknown): string {
  if (typeof text !== "string") return "";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** An INVALID_ARGUMENT error that names the parameter, what was expected and what was given. */
export function invalidArgument(parameter: string, expected: string, actual: unknown): MoeError {
  if (types.isPromise(actual)) return unexpected(parameter, expected, "a promise; await it first");
  const given = describe(actual);
  const sameName = typeof actual === "object" && actual !== null && /^an? ([A-Z]\w*)/.exec(expected)?.[1] === given;
  const other = `an object of another class ${given}, as a second copy of its package has, or a proxy`;
  return unexpected(parameter, expected, sameName ? other : given);
}

/** As {@link invalidArgument}, where words say what was given: "none", "2 experts". */
export function unexpected(parameter: string, expected: string, given: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${parameter}: expected ${expected}, got ${given}`);
}

/** An INVALID_ARGUMENT error for two arguments that exclude each other: "jitter cannot be combined with noisy". */
export function cannotCombine(parameter: string, other: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `${parameter} cannot be combined with ${other}`);
}

/** An INVALID_ARGUMENT error for an argument that needs another: "noiseRouter requires noisy". */
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
