import type { Device } from "../../core/device.js";
import type { DType } from "../../core/dtype.js";
import type { Fields } from "../../core/operators/field.js";
import { type OperatorName, operators } from "../../core/operators/table.js";
import type { Tensor } from "../../core/tensor.js";
import { packExperts } from "../../operators/experts/grouped_gemm.js";
import type { Subject, SubjectInputs, SubjectOperator, TestArray } from "./subject.js";
import { testedOperators } from "./test_cases.js";

/**
 * A device of this package as a subject: to compare with, to plant bugs in, or to compute what a subject leaves out. The device
 * stays the caller's.
 */
export function deviceSubject(device: Device): Subject {
  const all = testedOperators.map((name): [string, SubjectOperator] => [
    name,
    (inputs) => compute(device, name, inputs),
  ]);
  return { name: device.name, operators: Object.fromEntries(all) };
}

async function compute(device: Device, name: OperatorName, inputs: SubjectInputs) {
  const fields: Fields = operators[name];
  const made: Disposable[] = [];
  const keep = <T extends Disposable>(resource: T): T => {
    made.push(resource);
    return resource;
  };
  try {
    const results = new Map<string, Tensor>();
    const operands: Record<string, unknown> = {};
    for (const [field, { kind }] of Object.entries(fields)) {
      const { [field]: given } = inputs;
      const output = inputs.outputs[field];
      if (kind === "packed_experts") {
        const weight = keep(upload(device, given)) as Tensor<"f32">;
        operands[field] = keep(packExperts(weight, { activation: inputs.activation, clamp: inputs.clamp })).handle;
      } else if (output !== undefined) {
        const tensor = keep(device.empty(output.shape, output.dtype as DType));
        results.set(field, tensor);
        operands[field] = tensor.handle;
      } else {
        operands[field] = ArrayBuffer.isView(given?.data) ? keep(upload(device, given)).handle : given;
      }
    }
    (device.backend[name] as (operands: object) => void)(operands);
    const values = [...results].map(async ([field, tensor]) => [field, await tensor.data()] as const);
    return Object.fromEntries(await Promise.all(values));
  } finally {
    for (const resource of made) resource[Symbol.dispose]();
  }
}

function upload(device: Device, { data, shape, dtype }: TestArray): Tensor {
  return device.tensor(data, shape, dtype);
}
