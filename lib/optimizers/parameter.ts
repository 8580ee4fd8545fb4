import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";

/** A tensor that an optimiser changes. Layers give theirs with {@link MoeLayer.parameters}; any other object will do. */
export interface Parameter {
  /** Unique within an optimiser; names the parameter in files. */
  readonly name: string;
  /** f32, of any shape; changed in place. */
  readonly value: Tensor<"f32">;
  /** f32, of the value's shape. A step skips parameters without a gradient, or with one that nothing has been written to. */
  readonly gradient: Tensor<"f32"> | undefined;
  /** A copy of the value in another float dtype, written by the same pass over memory. */
  readonly copy?: Tensor<FloatDType> | undefined;
  /** Its weight decay, such as 0 for biases and norms; default the optimiser's. */
  readonly weightDecay?: number | undefined;
  /** Multiplies the optimiser's learning rate; default 1. */
  readonly learningRateFactor?: number | undefined;
  /** Called once after a step has been enqueued, for all parameters that have the same function. */
  readonly changed?: (() => void) | undefined;
}
