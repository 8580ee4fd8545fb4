import { constants } from "node:buffer";
import { describe, invalidArgument, messageOf, unexpected } from "../../core/errors.js";
import { type DType, dtypes } from "../../core/tensors/dtype.js";
import { shapeSize } from "../../core/tensors/shape.js";
import { finiteOrText } from "../../core/text/finite_json.js";
import { printable } from "../../core/text/printable.js";
import { formatBytes } from "../../terminal/format.js";
import { arraysIn, isTestArray } from "./arrays.js";
import type { OutputArray, SubjectInputs, SubjectOutput } from "./subject.js";

// What goes through the pipes to a subject in another process: a line of JSON each way, arrays as base64 of their bytes.

/** The first line of a peer. */
export interface Greeting {
  readonly name: string;
  readonly operators: readonly string[];
}

/** A call as a line, with the number by which its answer can be told from others. Numbers that JSON does not have are the strings "Infinity", "-Infinity" and "NaN". */
export function requestLine(id: number, operator: string, inputs: SubjectInputs): string {
  checkLength(inputs);
  const encoded = (key: string, value: unknown): unknown => {
    if (!isTestArray(value)) return finiteOrText(key, value);
    const { data, shape, dtype } = value;
    return { dtype, shape, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64") };
  };
  return `${JSON.stringify({ id, operator, inputs }, encoded)}\n`;
}

/** Bytes whose base64 fits into a string of JavaScript, beside some text. */
const mostBytes = Math.floor((constants.MAX_STRING_LENGTH - 2 ** 20) / 4) * 3;

/** @throws INVALID_ARGUMENT for tensors that do not fit into a line. */
function checkLength(inputs: SubjectInputs): void {
  const bytes = arraysIn(inputs).reduce((sum, [, { data }]) => sum + data.byteLength, 0);
  if (bytes <= mostBytes) return;
  const most = `tensors of at most ${formatBytes(mostBytes)} together for a subject in another process`;
  throw unexpected("inputs", `${most}, whose calls are lines of text`, formatBytes(bytes));
}

/** @throws INVALID_ARGUMENT for a line of another form. */
export function readGreeting(line: string): Greeting {
  const { name, operators } = readObject("first line", line, greetingForm);
  const isNames = Array.isArray(operators) && operators.every((one) => typeof one === "string");
  if (typeof name !== "string" || !isNames) throw invalidArgument("first line", greetingForm, quoted(line));
  return { name, operators };
}

/**
 * Why a line cannot be the answer to a call; undefined if it can. An object without an `id` answers the call that was made last.
 * @param id of the call.
 */
export function wrongAnswer(line: string, id: number): string | undefined {
  const { object: answer, problem } = parse(line);
  if (answer === undefined) return `answer: expected ${answerForm}, got ${quoted(line)}${problem}`;
  if (answer.id === undefined || answer.id === id) return undefined;
  return `answer: expected the id ${id} of the call, got ${describe(answer.id)}`;
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
    typeof value === "string"
      ? decodedOutput(name, value, Object.hasOwn(expected, name) && expected[name])
      : withNumbers(value),
  ]);
  return Object.fromEntries(decoded);
}

const greetingForm = 'JSON such as {"name": "mine", "operators": ["gating"]}';
const answerForm = 'JSON such as {"outputs": {"y": "<base64>"}}, {"unsupported": "why"} or {"error": "what"}';

function readObject(what: string, line: string, expected: string): Record<string, unknown> {
  const { object, problem } = parse(line);
  if (object !== undefined) return object;
  throw invalidArgument(what, expected, `${quoted(line)}${problem}`);
}

/** The object that a line holds, or what is wrong with its JSON. */
function parse(line: string): { readonly object?: Record<string, unknown>; readonly problem: string } {
  try {
    const value: unknown = JSON.parse(line);
    const problem = "";
    return typeof value === "object" && value !== null
      ? { object: value as Record<string, unknown>, problem }
      : { problem };
  } catch (error) {
    return { problem: ` (${printable(messageOf(error))})` };
  }
}

/** A line for an error, in at most 80 characters. */
export function quoted(line: string): string {
  return printable(line.length > 80 ? `${line.slice(0, 80)}...` : line);
}

/** A list in which numbers stand for the strings that JSON has instead of them. */
function withNumbers(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value.map((entry) => (notInJson.has(entry) ? Number(entry) : entry));
}

const notInJson: ReadonlySet<unknown> = new Set(["Infinity", "-Infinity", "NaN"]);

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
