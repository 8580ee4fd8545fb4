import type { Device } from "../../core/device/device.js";
import type { Fields } from "../../core/operators/field.js";
import { type OperatorName, operators } from "../../core/operators/table.js";
import { type DType, dtypes } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import { packExperts } from "../../operators/experts/packed_experts.js";
import { isTestArray, toFloat32, upload, uploadQuantized } from "./arrays.js";
import { computeLayer } from "./layer_problem.js";
import type { Subject, SubjectInputs, TestArray, UntypedOperator } from "./subject.js";
import { testedOperators } from "./test_cases.js";

/**
 * A device of this package as a subject: to compare with, to plant bugs in, or to compute what a subject leaves out. The device
 * stays the caller's.
 */
export function deviceSubject(device: Device): Subject {
  const all = testedOperators.map((name): [string, UntypedOperator] => [
    name,
    (inputs) => (name === "layer" ? computeLayer(device, inputs) : computeOperator(device, name, inputs)),
  ]);
  return { name: device.name, operators: Object.fromEntries(all) };
}

/**
 * Computes an operator from arrays, as a subject does.
 * @param exact on `reference`: in float64, from the inputs as they are rounded.
 */
export async function computeOperator(device: Device, name: OperatorName, inputs: SubjectInputs, exact = false) {
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
        const options = activationOf({ activation: inputs.activation, clamp: inputs.clamp });
        const weight = isTestArray(given) ? keep(upload(device, given, exact)) : uploadQuantized(device, given, keep);
        operands[field] = keep(packExperts(weight as Tensor<"f32">, options)).handle;
      } else if (output !== undefined) {
        const tensor = keep(device.empty(output.shape, dtypeIn(output.dtype as DType, exact)));
        results.set(field, tensor);
        operands[field] = tensor.handle;
        if (given !== undefined) writeInto(tensor, given);
      } else {
        operands[field] = isTestArray(given) ? keep(upload(device, given, exact)).handle : given;
      }
    }
    (device.backend[name] as (operands: object) => void)(operands);
    const values = [...results].map(async ([field, tensor]) => [field, await tensor.data()] as const);
    return Object.fromEntries(await Promise.all(values));
  } finally {
    for (const resource of made) resource[Symbol.dispose]();
  }
}

/** The values of a tensor that an operator updates. */
function writeInto(tensor: Tensor, { data, dtype }: TestArray): void {
  tensor.write(dtypes[dtype].float ? toFloat32({ data, dtype }) : data);
}

function dtypeIn(dtype: DType, exact: boolean): DType {
  return exact && dtypes[dtype].float ? "f64" : dtype;
}
