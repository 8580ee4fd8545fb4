import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { groupedGemmWeightBackward } from "../../operators/experts/grouped_gemm_weight_backward.js";
import { withOneExpert } from "../../operators/experts/linear.js";
import { rmsNormBackward } from "../../operators/experts/rms_norm_backward.js";
import type { LayerParts } from "../layer_parts.js";
import { Temporaries } from "../temporaries.js";
import type { LatentMatrix, LatentProjections } from "../weights/latent_projections.js";
import { type BankTarget, bankBackward } from "./bank_backward.js";
import { dxTerms } from "./experts_backward.js";
import type { SavedPass } from "./layer_state.js";
import { addTo, MatrixSum } from "./sums.js";

/**
 * From dy through a layer with `latent`: the shared expert, the projection back, the norm, the routed experts and the
 * projection to them. Gradients of what was rounded to the tokens' dtype are rounded to it too.
 * @returns [T, k] f32, the gradients of the routing's weights.
 */
export function latentBackward(
  parts: LayerParts,
  projections: LatentProjections,
  pass: SavedPass,
  dy: Tensor<FloatDType>,
  target: BankTarget,
): Tensor<"f32"> {
  using temporaries = new Temporaries();
  const { onDevice, routed, device } = parts;
  const { x, tokens, routing, sharedPre, sharedMultiplied } = pass;
  const { accumulate, gradients } = target;
  if (onDevice.description.sharedExperts > 0) {
    const own = { layer: onDevice, x, dy, routing, pre: sharedPre, multiplied: sharedMultiplied };
    bankBackward(parts, own, target).dispose(); // zeros, as the choices are of others
  }
  const sums = pass.sums as Tensor<FloatDType>;
  const read = projections.normalised(sums);
  if (read !== sums) temporaries.keep(read);
  const dSums = temporaries.keep(device.empty(sums.shape, sums.dtype));
  const norm = onDevice.description.latent?.norm;
  const dRead = norm ? temporaries.keep(device.empty(sums.shape, tokens.dtype)) : dSums;
  matrixBackward(projections, "latentUp", read, dy, dRead, target);
  if (norm) {
    const weight = projections.weight("latentNormWeight") as Tensor<FloatDType>;
    const into = gradients.projection("latentNormWeight")?.weight as Tensor<"f32">;
    const dWeight = accumulate ? temporaries.keep(device.empty(into.shape, into.dtype)) : into;
    rmsNormBackward(sums, weight, dRead, { epsilon: norm.epsilon, out: { dx: dSums, dWeight } });
    if (accumulate) addTo(into, dWeight);
  }
  const z = temporaries.keep(projections.down(x.handle, tokens.count, x.dtype));
  const size = z.shape as [number, number];
  const dzTerms = temporaries.keep(new MatrixSum(device, size, tokens.dtype, dxTerms(routed)));
  const own = { ...pass, layer: routed, x: z, dy: dSums };
  using made = new Made();
  const dWeights = made.own(bankBackward(parts, own, { gradients, accumulate, dx: dzTerms }));
  const dz = temporaries.keep(dzTerms.toTensor(size, x.dtype));
  using dx = target.dx.term();
  matrixBackward(projections, "latentDown", x, dz, dx, target);
  return made.returned(dWeights);
}

/** From the gradient of a projection of x to x and, unless it is quantised, to its matrix. */
function matrixBackward(
  projections: LatentProjections,
  role: LatentMatrix,
  x: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  dx: Tensor<FloatDType>,
  { gradients, accumulate }: BankTarget,
): void {
  using values = projections.values(role);
  withOneExpert(values, x, (matrix, offsets) => {
    groupedGemm(dy, matrix, offsets, { transpose: true, out: dx });
    const into = gradients.projection(role)?.weight;
    if (into === undefined) return;
    using dWeight = into.reshape([1, ...into.shape]);
    groupedGemmWeightBackward(x, dy, offsets, { accumulate, out: { dWeight } });
  });
}
