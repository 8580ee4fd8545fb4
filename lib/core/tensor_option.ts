import type { DType } from "./dtype.js";
import { invalidArgument } from "./errors.js";
import type { Reader } from "./options.js";
import { Tensor } from "./tensor.js";

/** Any tensor; checkTensor later checks its dtype, shape and device. */
export function tensor<D extends DType>(): Reader<Tensor<D>> {
  return (value, name) => {
    if (value instanceof Tensor) return value as Tensor<D>;
    throw invalidArgument(name, "a Tensor", value);
  };
}
