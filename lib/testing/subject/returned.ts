import { createHash } from "node:crypto";
import { describe, invalidArgument, MoeError } from "../../core/errors.js";
import { type Shape, shapeSize, shapeText } from "../../core/tensors/shape.js";
import { indexOf } from "../difference.js";
import { isTestArray, leavesIn, toFloat32 } from "./arrays.js";
import type { OutputArray, SubjectInputs, TestArray } from "./subject.js";

/**
 * The values of one output that a subject returned.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH if it returned something else.
 */
export function returnedValues(outputs: unknown, output: string, { shape, dtype }: OutputArray): ArrayLike<number> {
  const returned = (outputs as Record<string, unknown> | null | undefined)?.[output];
  if (!isArray(returned)) {
    throw new MoeError(
      "INVALID_ARGUMENT",
      `${output}: expected an array of the ${shapeSize(shape)} values of shape ${shapeText(shape)}, got ${describe(returned)}`,
    );
  }
  if (returned.length !== shapeSize(shape)) {
    const sizes = `expected ${shapeSize(shape)} values of shape ${shapeText(shape)}, got ${returned.length}`;
    throw new MoeError("SHAPE_MISMATCH", `${output}: ${sizes}`);
  }
  checkNumbers(returned, output, shape);
  return toFloat64(returned, dtype);
}

/** What is no number would be compared as one: null as 0, "1" as 1. */
function checkNumbers(returned: ArrayLike<unknown>, output: string, shape: Shape): void {
  if (ArrayBuffer.isView(returned) && typeof returned[0] !== "bigint") return;
  for (let position = 0; position < returned.length; position++) {
    const value = returned[position];
    if (typeof value === "number") continue;
    const place = indexOf(position, shape).join(", ");
    throw invalidArgument(`${output}[${place}]`, "a number", value);
  }
}

/** Digests of all that a subject gets, tensors and other values, by their paths. */
export function inputDigests(inputs: SubjectInputs): Readonly<Record<string, string>> {
  const digests = leavesIn(inputs).map(([path, leaf]) => {
    if (!isTestArray(leaf)) return [path, String(leaf)];
    const { data, shape, dtype } = leaf;
    return [path, `${digest(data)} ${shapeText(shape)} ${dtype}`];
  });
  return Object.fromEntries(digests);
}

/** What is hashed at a time: a call takes less than 2 GiB. */
const digestBytes = 2 ** 30;

function digest({ buffer, byteOffset, byteLength }: TestArray["data"]): string {
  const hash = createHash("sha256");
  for (let done = 0; done < byteLength; done += digestBytes) {
    hash.update(new Uint8Array(buffer, byteOffset + done, Math.min(digestBytes, byteLength - done)));
  }
  return hash.digest("hex");
}

/** Which inputs are not what {@link inputDigests} saw, in words; null if all are. */
export function changedInputs(before: Readonly<Record<string, string>>, inputs: SubjectInputs): string | null {
  const after = inputDigests(inputs);
  const changed = Object.keys(before).filter((path) => before[path] !== after[path]);
  return changed.length > 0 ? changed.join(", ") : null;
}

function isArray(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function toFloat64(values: ArrayLike<number>, dtype: string): ArrayLike<number> {
  const is16 = dtype === "f16" || dtype === "bf16";
  return is16 && values instanceof Uint16Array ? toFloat32({ data: values, dtype }) : values;
}
