import { type DType, dtypes } from "../../core/dtype.js";
import { invalidArgument, unexpected } from "../../core/errors.js";
import { finiteOrText } from "../../core/finite_json.js";
import { printable } from "../../core/printable.js";
import { shapeSize } from "../../core/shape.js";
import { isTestArray } from "./arrays.js";
import type { OutputArray, SubjectInputs, SubjectOutput } from "./subject.js";

// What goes through the pipes to a subject in another process: a line of JSON each way, arrays as base64 of their bytes.

/** The first line of a peer. */
export interface Greeting {
  readonly name: string;
  readonly operators: readonly string[];
}

/** A call as a line. Numbers that JSON does not have are the strings "Infinity", "-Infinity" and "NaN". */
export function requestLine(operator: string, inputs: SubjectInputs): string {
  const encoded = (key: string, value: unknown): unknown => {
    if (!isTestArray(value)) return finiteOrText(key, value);
    const { data, shape, dtype } = value;
    return { dtype, shape, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64") };
  };
  return `${JSON.stringify({ operator, inputs }, encoded)}\n`;
}

/** @throws INVALID_ARGUMENT for a line of another form. */
export function readGreeting(line: string): Greeting {
  const { name, operators } = readObject("first line", line, greetingForm);
  const isNames = Array.isArray(operators) && operators.every((one) => typeof one === "string");
  if (typeof name !== "string" || !isNames) throw invalidArgument("first line", greetingForm, quoted(line));
  return { name, operators };
}

/**
 * The outputs that a line holds; null if it says that the call is not supported.
 * @throws INVALID_ARGUMENT for a line of another form; the peer's own error.
 */
export function readAnswer(line: string, expected: SubjectInputs["outputs"]): Record<string, SubjectOutput> | null {
  const { outputs, unsupported, error } = readObject("answer", line, answerForm);
  if (typeof error === "string") throw new Error(error);
  if (unsupported !== undefined) return null;
  if (typeof outputs !== "object" || outputs === null) throw invalidArgument("answer", answerForm, quoted(line));
  const decoded = Object.entries(outputs).map(([name, value]) => [
    name,
    typeof value === "string" ? decodedOutput(name, value, Object.hasOwn(expected, name) && expected[name]) : value,
  ]);
  return Object.fromEntries(decoded);
}

const greetingForm = 'JSON such as {"name": "mine", "operators": ["gating"]}';
const answerForm = 'JSON such as {"outputs": {"y": "<base64>"}}, {"unsupported": "why"} or {"error": "what"}';

function readObject(what: string, line: string, expected: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw invalidArgument(what, expected, quoted(line));
}

function quoted(line: string): string {
  return printable(line.length > 80 ? `${line.slice(0, 80)}...` : line);
}

function decodedOutput(name: string, text: string, output: OutputArray | false): SubjectOutput {
  // An output that nobody asked for is not looked at.
  if (output === false) return [];
  const { shape, dtype } = output;
  const { raw, bytes: elementBytes } = dtypes[dtype as DType];
  const bytes = Buffer.from(text, "base64");
  const size = shapeSize(shape) * elementBytes;
  if (bytes.length !== size) throw unexpected(name, `base64 of ${size} bytes of ${dtype}`, `${bytes.length} bytes`);
  return new raw(Uint8Array.from(bytes).buffer);
}
