import type { Device } from "../../core/device/device.js";
import { gateUpRows } from "../../core/layer/activation.js";
import { allOrNone } from "../../core/tensors/all_or_none.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerDescription } from "../description/config.js";

/** The rows of a pass before the activation: those of every token's slots, in the order of experts. */
export interface InnerRows {
  /** [R, P] */
  readonly pre: Tensor<FloatDType>;
  /** [R, I], of the third projection. */
  readonly multiplied: Tensor<FloatDType> | undefined;
}

/** Where a forward keeps rows: of the routed experts, and of the shared ones of a layer with `latent`. */
export interface KeptRows {
  readonly routed?: InnerRows | undefined;
  readonly shared?: InnerRows | undefined;
}

/** Memory for the rows of a pass of T tokens, each with k choices. */
export function emptyInnerRows(
  { device, description }: { readonly device: Device; readonly description: MoeLayerDescription },
  [tokens, choices]: readonly [number, number],
  dtype: FloatDType,
): InnerRows {
  const { sharedExperts, activation, intermediateSize, multiplier } = description;
  const rows = tokens * (choices + sharedExperts);
  const widths = [gateUpRows(activation, intermediateSize), ...(multiplier ? [intermediateSize] : [])];
  const [pre, multiplied] = allOrNone(widths, (columns) => device.empty([rows, columns], dtype));
  return { pre: pre as Tensor<FloatDType>, multiplied };
}
