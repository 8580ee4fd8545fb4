import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import type { Routing } from "../operators/routing/gating.js";
import type { DeviceLayer } from "./device_layer.js";
import type { Tokens } from "./router/tokens.js";
import { Temporaries } from "./temporaries.js";
import type { LatentProjections } from "./weights/latent_projections.js";

/** A layer with `latent` on its device. */
export interface LatentLayer {
  /** What reads the tokens as they are: the router and the shared expert. */
  readonly onDevice: DeviceLayer;
  /** The routed experts. */
  readonly routed: DeviceLayer;
  readonly projections: LatentProjections;
}

/** How the experts of a pass are computed. */
export interface LatentExperts {
  /** Writes the sums [T, L] of the routed experts of z [T, L]. */
  routed(z: Tensor<FloatDType>, sums: Tensor<FloatDType>): void;
  /** Writes the output: the shared expert's, and what is added to it [T, H] f32. Only called if there is one. */
  shared(added: Tensor<FloatDType>): void;
}

/** The experts as the device's fused forward computes them. */
export function fusedExperts(
  { onDevice, routed }: LatentLayer,
  x: TensorHandle,
  y: TensorHandle,
  { ids, weights }: Routing,
  maxChoices: number,
): LatentExperts {
  return {
    routed: (z, sums) => routed.handle.forward(z.handle, sums.handle, ids.handle, weights.handle, maxChoices),
    shared: ({ handle }) => onDevice.handle.forward(x, y, ids.handle, weights.handle, 0, undefined, undefined, handle),
  };
}

/**
 * Enqueues y = latentUp norm(routed experts of latentDown x) + shared expert of x + residual. The projection, the experts'
 * sums and what the norm makes of them are rounded to the tokens' dtype; what comes back from it is not, and is added to the
 * shared expert's output in float32.
 * @returns the experts' sums [T, L], for the caller to dispose of.
 */
export function latentForward(
  { onDevice, projections }: LatentLayer,
  x: TensorHandle,
  y: TensorHandle,
  { count, inputDType, dtype }: Tokens,
  experts: LatentExperts,
  residual?: TensorHandle,
): Tensor<FloatDType> {
  const { device, description } = onDevice;
  const { hiddenSize, sharedExperts } = description;
  using temporaries = new Temporaries();
  const z = temporaries.keep(projections.down(x, count, inputDType));
  const sums = device.empty(z.shape, inputDType);
  try {
    experts.routed(z, sums);
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
    if (sharedExperts > 0) experts.shared(added);
    return sums;
  } catch (error) {
    sums.dispose();
    throw error;
  }
}
