import type { PackedHandle } from "../../core/device/backend.js";
import { Device } from "../../core/device/device.js";
import { MoeError } from "../../core/errors.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { Field, Fields } from "../../core/operators/field.js";
import { type OperatorName, operators } from "../../core/operators/table.js";
import type { DType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { openReference } from "../../reference/backend.js";
import { ReferenceTensor } from "../../reference/core/tensor.js";
import type { ReferencePackedExperts } from "../../reference/experts/packed_experts.js";
import type { Case } from "../case.js";
import { drawsOf } from "../inputs/draws.js";
import { Inputs } from "../inputs/inputs.js";
import { arrayOf, withArrays } from "./arrays.js";
import type { TestedOperatorName } from "./operator_names.js";
import type { OutputArray, Problem } from "./subject.js";

// A case calls an operator of this package. Here it does so on a `reference` device that writes down the call, twice: once
// with inputs in the case's dtypes, which are what a subject gets, and once in float64, for what is expected.

/** One call of an operator. */
interface Call {
  readonly name: OperatorName;
  readonly operands: Readonly<Record<string, unknown>>;
}

/** Draws a case's inputs, and computes what is expected of them. */
export function problemOf(operator: TestedOperatorName, source: Case<string>, seed: number): Problem {
  const text = `${source.operator} ${source.name}${seed === 0 ? "" : ` ${seed}`}`;
  const drawn = record(operator, source, text, false);
  const exact = record(operator, source, text, true);
  const fields: Fields = operators[operator];
  const inputs: Record<string, unknown> = {};
  const outputs: Record<string, OutputArray> = {};
  const expected: Record<string, Float64Array | Int32Array> = {};
  for (const [field, { kind }] of Object.entries(fields)) {
    const value = drawn.call.operands[field];
    if (value === undefined || value === null) continue;
    if (kind === "packed_experts") Object.assign(inputs, drawn.weights(value as PackedHandle));
    else if (!(value instanceof ReferenceTensor)) inputs[field] = value;
    else {
      // What an operator updates it also reads; the recording device has not run it.
      if (!isOutput(kind)) inputs[field] = arrayOf(value);
      if (!isWritten(kind)) continue;
      outputs[field] = { shape: value.shape, dtype: value.dtype };
      if (drawn.returned.has(value)) expected[field] = valuesOf(exact.call.operands[field] as ReferenceTensor);
    }
  }
  const names = new Map(
    Object.keys(outputs).map((field) => [field, drawn.returned.get(drawn.call.operands[field]) ?? field]),
  );
  return { operator, inputs: { ...inputs, outputs }, expected, names };
}

const isOutput = (kind: string): boolean => kind === "output" || kind === "optional_output";
const isWritten = (kind: string): boolean => isOutput(kind) || kind === "updated";

/** Runs a case on a device that writes down its call of `operator`; in float64 operators compute, else they do not. */
function record(operator: OperatorName, source: Case<string>, seed: string, exact: boolean) {
  const backend = openReference({ poison: true });
  const calls: Call[] = [];
  for (const name of Object.keys(operators) as OperatorName[]) {
    const compute = backend[name] as (operands: object) => void;
    const write = (operands: Call["operands"]): void => {
      calls.push({ name, operands });
      if (exact) compute(operands);
    };
    Object.assign(backend, { [name]: write });
  }
  const packed = new Map<PackedHandle, Parameters<typeof backend.packedExperts>>();
  const pack = backend.packedExperts.bind(backend);
  backend.packedExperts = (...description) => {
    const handle = pack(...description);
    packed.set(handle, description);
    return handle;
  };
  using device = new Device("reference", backend, "");
  using inputs = new Inputs(device, drawsOf(source, seed), exact);
  const results = Object.entries(source.run(inputs));
  const returned = new Map(results.map(([output, tensor]) => [(tensor as Tensor).handle as unknown, output]));
  device.synchronizeSync();
  const [call, ...others] = calls.filter(({ name }) => name === operator);
  const computed = new Set(calls.filter((other) => other !== call).flatMap(outputsOf));
  if (
    call === undefined ||
    others.length > 0 ||
    Object.values(call.operands).some((operand) => computed.has(operand))
  ) {
    const names = calls.map(({ name }) => name).join(", ") || "none";
    throw new MoeError(
      "INTERNAL",
      `${source.operator} ${source.name}: expected one call of ${operator} whose inputs no other call computes, got ${names}; ` +
        "mark the case devicesOnly, or list the operator in leftOut (subject/operator_names.ts)",
    );
  }
  const given = new Map([...inputs.packed].map(([handle, weight]) => [handle, withArrays(weight) as object]));
  const weights = (handle: PackedHandle) => weightsOf(handle, packed.get(handle), given.get(handle));
  return { call, returned, weights };
}

function outputsOf({ name, operands }: Call): unknown[] {
  const fields: Fields = operators[name];
  return Object.keys(fields).flatMap((field) =>
    isWritten((fields[field] as Field).kind) && operands[field] ? [operands[field]] : [],
  );
}

/** Expert weights as they were before they were packed, and what was packed with them. */
function weightsOf(
  handle: PackedHandle,
  description: readonly unknown[] | undefined,
  given: object | undefined,
): Record<string, unknown> {
  const [experts, rows, columns, format, activation, clamp] = description as Parameters<
    ReturnType<typeof openReference>["packedExperts"]
  >;
  if (!isPlain(weightFormat(format))) {
    if (given === undefined) throw new MoeError("INTERNAL", `expected weights packed by the inputs, got ${format}`);
    return { weight: { ...given, shape: [experts, rows, columns] }, activation, clamp };
  }
  const weight = new Device("reference", openReference({}), "").empty([experts, rows, columns], format as DType);
  const values = new Float64Array(experts * rows * columns);
  for (let expert = 0; expert < experts && rows * columns > 0; expert++) {
    values.set((handle as ReferencePackedExperts).weight(expert).values, expert * rows * columns);
  }
  (weight.handle as ReferenceTensor).store(values);
  return { weight: arrayOf(weight.handle as ReferenceTensor), activation, clamp };
}

function valuesOf(tensor: ReferenceTensor): Float64Array | Int32Array {
  return tensor.dtype === "i32" ? tensor.integers().slice() : tensor.values();
}
