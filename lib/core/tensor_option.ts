import type { DType } from "./dtype.js";
import { invalidArgument } from "./errors.js";
import type { Reader } from "./options.js";
import { Tensor } from "./tensor.js";

/** A tensor; checkTensor checks the rest, once dtype, shape and device are known. */
export function tensor<D extends DType>(): Reader<Tensor<D>> {
  return (value, name) => {
    if (value instanceof Tensor) return value as Tensor<D>;
    throw invalidArgument(name, "a Tensor", value);
  };
}
