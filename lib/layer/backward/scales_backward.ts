import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { combine } from "../../operators/experts/combine.js";
import { expertTotals } from "../../operators/statistics/expert_totals.js";
import type { LayerParts } from "../layer_parts.js";
import { timesExpertScale } from "../router/scales.js";
import { readFrom } from "../router/tokens.js";
import { Temporaries } from "../temporaries.js";
import { readByRouter, type SavedPass } from "./layer_state.js";
import { addTo, steps } from "./sums.js";

/**
 * The gradient [T, k] of a routing's weights before the scales of experts, from that of the scaled ones; writes that of the
 * scales [E], each the sum over its expert's slots of weight times gradient.
 */
export function expertScaleBackward(
  { device, router, description }: LayerParts,
  pass: SavedPass,
  dWeights: Tensor<"f32">,
  into: Tensor<"f32"> | undefined,
  accumulate: boolean,
): Tensor<"f32"> {
  const { tokens, training, routing } = pass;
  const { ids } = routing;
  const { shape, dtype, size } = dWeights;
  using made = new Made();
  const dUnscaled = made.own(device.empty(shape, dtype));
  timesExpertScale({ ids, weights: dWeights }, router.weights.extra("expertScale") as Tensor<FloatDType>, dUnscaled);
  if (into === undefined) return made.returned(dUnscaled);

  using temporaries = new Temporaries();
  const read = readByRouter(pass);
  const unscaled = router.unscaled(read.handle, readFrom(tokens, read), training);
  temporaries.keep(unscaled.ids);
  const rows = temporaries.keep(temporaries.keep(unscaled.weights).reshape([size, 1]));
  const factors = temporaries.keep(dWeights.reshape([size, 1]));
  const slots = temporaries.keep(steps(device, [size, 1], 0));
  const products = temporaries.keep(combine(rows, slots, factors));
  const weights = temporaries.keep(products.reshape(shape));
  const { numExperts } = description;
  const totals = expertTotals(ids, { numExperts, weights });
  for (const total of Object.values(totals) as Tensor[]) temporaries.keep(total);
  if (accumulate) addTo(into, totals.weights);
  else copyAll(totals.weights, into);
  return made.returned(dUnscaled);
}
