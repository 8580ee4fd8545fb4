import { unexpected } from "../core/errors.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { checkTensor, resultDType } from "../operators/check.js";
import { listed } from "./listed.js";

/**
 * The square of the norm of several tensors taken together: the sum of the squares of all their elements, in float64
 * within a tensor and in a fixed order. Optimisers take it to clip gradients without a wait (`maxNorm`).
 *
 * @param tensors f32, of any shapes, on one device; at least one.
 * @returns [1] f32.
 * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function squaredNorm(tensors: Iterable<Tensor<"f32">>): Tensor<"f32"> {
  const list = listed<Tensor<"f32">>("tensors", tensors);
  if (list.length === 0) throw unexpected("tensors", "at least one tensor", "none");
  const [first] = list as [Tensor<"f32">, ...Tensor<"f32">[]];
  checkTensor("tensors[0]", first, "float32", "any");
  list.forEach((tensor, index) => {
    checkTensor(`tensors[${index}]`, tensor, [first.dtype], "any", first.device);
  });
  const total = first.device.zeros([1], resultDType(first));
  for (const { handle, size, device } of list) {
    const flat = handle.view([size], 0);
    device.backend.sumOfSquares({ values: flat, total: total.handle });
    flat.free();
  }
  return total;
}
