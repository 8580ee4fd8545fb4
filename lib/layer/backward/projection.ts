import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { routerProjectionBackward } from "../../operators/routing/router_projection_backward.js";
import { Temporaries } from "../temporaries.js";
import type { ProjectionTensors } from "./layer_tensors.js";
import { addTo } from "./sums.js";

/** What a projection's backward pass reads and writes. */
export interface ProjectionPass {
  readonly x: Tensor<FloatDType>;
  readonly weight: Tensor<FloatDType>;
  readonly dLogits: Tensor<"f32">;
  readonly dx: Tensor<"f32">;
  /** Where the gradients go. */
  readonly into: ProjectionTensors;
  /** Adds to what is there. */
  readonly accumulate: boolean;
}

/** The gradients of a projection of x. */
export function projectionBackward({ x, weight, dLogits, dx, into, accumulate }: ProjectionPass): void {
  const backward = (dWeight: Tensor<"f32">, dBias: Tensor<"f32"> | undefined) => {
    if (dBias === undefined) routerProjectionBackward(x, weight, dLogits, { out: { dx, dWeight } });
    else routerProjectionBackward(x, weight, dLogits, { bias: true, out: { dx, dWeight, dBias } });
  };
  if (!accumulate) {
    backward(into.weight, into.bias);
    return;
  }
  using temporaries = new Temporaries();
  const added = (target: Tensor<"f32"> | undefined) =>
    target && temporaries.keep(target.device.empty(target.shape, target.dtype));
  const [dWeight, dBias] = [added(into.weight) as Tensor<"f32">, added(into.bias)];
  backward(dWeight, dBias);
  addTo(into.weight, dWeight);
  if (dBias && into.bias) addTo(into.bias, dBias);
}
