import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { combine } from "../../operators/experts/combine.js";
import { combineBackward } from "../../operators/experts/combine_backward.js";
import type { IdentityExperts } from "../forward/identity_experts.js";
import { Temporaries } from "../temporaries.js";
import type { SavedPass } from "./layer_state.js";
import { MatrixSum } from "./sums.js";

/**
 * From dy to the gradients of what identity experts got: x, which is one more term of dx, and the weights [T, k] of their
 * slots, which are added to those of the other experts' slots.
 */
export function identityBackward(
  experts: IdentityExperts,
  { x, routing }: SavedPass,
  dy: Tensor<FloatDType>,
  dWeights: Tensor<"f32">,
  dx: MatrixSum,
): Tensor<"f32"> {
  using temporaries = new Temporaries();
  const { ids, weights } = experts.slots(routing, temporaries);
  const shares = temporaries.keep(experts.shares({ ids, weights }));
  const rows = experts.ownRows(shares.size);
  using term = dx.term();
  combine(dy, rows, shares, { out: term });

  const dShares = temporaries.keep(combineBackward(x, rows, shares, dy, { want: "dWeights" }).dWeights);
  using sum = new MatrixSum(dy.device, dWeights.shape as [number, number], dWeights.dtype, 2);
  using ofOthers = sum.term();
  copyAll(dWeights, ofOthers);
  using ofThese = sum.term();
  combineBackward(experts.ones, ids, weights, dShares, { want: "dWeights", out: { dWeights: ofThese } });
  return sum.toTensor(dWeights.shape, dWeights.dtype);
}
