import { invalidArgument, type MoeError } from "../errors.js";
import { isArray } from "../input/foreign.js";
import type { Reader } from "../input/options.js";
import type { DType } from "./dtype.js";
import { Tensor } from "./tensor.js";

/** Any tensor; checkTensor later checks its dtype, shape and device. */
export function tensor<D extends DType>(): Reader<Tensor<D>> {
  return (value, name) => {
    if (value instanceof Tensor) return value as Tensor<D>;
    throw notTensor(name, value);
  };
}

/** The error of a value that should be a tensor; of an array it says how to make one. */
export function notTensor(parameter: string, value: unknown): MoeError {
  const holdsValues = isArray(value) || ArrayBuffer.isView(value);
  return invalidArgument(
    parameter,
    holdsValues ? "a Tensor, as device.tensor(values, shape) makes" : "a Tensor",
    value,
  );
}
