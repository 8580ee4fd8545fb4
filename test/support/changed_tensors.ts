import { type DType, dtypes } from "../../lib/core/tensors/dtype.js";
import type { Shape } from "../../lib/core/tensors/shape.js";

/** What a tensor's handle stands for. */
export interface Known {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Other sizes for a tensor, and another dtype of no more bytes. */
export function* changes({ dtype, shape }: Known): Generator<readonly [place: string, changed: Known]> {
  for (const [index, size] of shape.entries()) {
    for (const other of [size - 1, size + 1, 0]) {
      yield [`[${index}]`, { dtype, shape: shape.with(index, other) }];
    }
  }
  yield ["", { dtype, shape: [...shape, 1] }];
  const wrong: DType = dtypes[dtype].float ? "u8" : "bf16";
  yield [" dtype", { dtype: wrong, shape }];
}
