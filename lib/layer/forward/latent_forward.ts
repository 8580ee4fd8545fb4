import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { DeviceLayer } from "../device_layer.js";
import { Temporaries } from "../temporaries.js";
import type { LatentProjections } from "../weights/latent_projections.js";
import type { ForwardPass } from "./forward_pass.js";

/** A layer with `latent` on its device. */
export interface LatentLayer {
  /** What reads the tokens as they are: the router and the shared expert. */
  readonly onDevice: DeviceLayer;
  /** The routed experts. */
  readonly routed: DeviceLayer;
  readonly projections: LatentProjections;
}

/**
 * Enqueues y = latentUp norm(routed experts of latentDown x) + shared expert of x + residual. The projection, the experts'
 * sums and what the norm makes of them are rounded to the tokens' dtype; what comes back from it is not, and is added to the
 * shared expert's output in float32.
 * @returns the experts' sums [T, L], for the caller to dispose of.
 */
export function latentForward(
  { onDevice, routed, projections }: LatentLayer,
  { x, y, tokens, routing, maxChoices, residual, kept }: ForwardPass,
): Tensor<FloatDType> {
  const { count, inputDType, dtype } = tokens;
  const { device, description } = onDevice;
  const { hiddenSize, sharedExperts } = description;
  using temporaries = new Temporaries();
  const z = temporaries.keep(projections.down(x, count, inputDType));
  const sums = device.empty(z.shape, inputDType);
  try {
    routed.forwardRouted({ x: z.handle, y: sums.handle, routing, maxChoices, rows: kept?.routed });
    const read = projections.normalised(sums);
    if (read !== sums) temporaries.keep(read);
    if (sharedExperts === 0 && residual === undefined) {
      projections.project("latentUp", read.handle, y, count);
      return sums;
    }
    const back = temporaries.keep(device.empty([count, hiddenSize], dtype));
    projections.project("latentUp", read.handle, back.handle, count);
    let added = back;
    if (residual !== undefined) {
      added = sharedExperts === 0 ? added : temporaries.keep(device.empty(back.shape, dtype));
      const { ownRows, ones } = onDevice.constants(count);
      const inputs = { rows: back.handle, rowOfSlot: ownRows.handle, weights: ones.handle, residual };
      device.backend.combine({ ...inputs, y: sharedExperts === 0 ? y : added.handle });
    }
    if (sharedExperts > 0) {
      onDevice.forwardRouted({ x, y, routing, maxChoices: 0, residual: added.handle, rows: kept?.shared });
    }
    return sums;
  } catch (error) {
    sums.dispose();
    throw error;
  }
}
