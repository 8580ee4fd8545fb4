import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { Routing } from "../../operators/routing/gating.js";
import { sharedSlotsBackward } from "../../operators/routing/shared_slots_backward.js";
import type { DeviceLayer } from "../device_layer.js";
import type { InnerRows } from "../forward/inner_rows.js";
import type { LayerParts } from "../layer_parts.js";
import { Temporaries } from "../temporaries.js";
import { expertsBackward } from "./experts_backward.js";
import type { LayerTensors } from "./layer_tensors.js";
import { copiedProjection } from "./matrices.js";
import { projectionBackward } from "./projection.js";
import { hasOwnSlots, innerRows, passRows } from "./rows.js";
import type { MatrixSum } from "./sums.js";

/** What the backward pass of the experts of a layer of the device reads. */
export interface BankPass {
  readonly layer: DeviceLayer;
  readonly x: Tensor<FloatDType>;
  readonly dy: Tensor<FloatDType>;
  readonly routing: Routing;
  /** The rows before the activation; undefined if they are to be computed again. */
  readonly pre?: Tensor<FloatDType> | undefined;
  readonly multiplied?: Tensor<FloatDType> | undefined;
}

/** Where the gradients go. */
export interface BankTarget {
  readonly gradients: LayerTensors;
  readonly accumulate: boolean;
  readonly dx: MatrixSum;
}

/**
 * From dy through the experts of a layer of the device, shared ones and their gate included, to x.
 * @returns [T, k] f32, the gradients of the routing's weights.
 */
export function bankBackward(parts: LayerParts, pass: BankPass, target: BankTarget): Tensor<"f32"> {
  using temporaries = new Temporaries();
  const { layer, x, dy, routing } = pass;
  const { gradients, accumulate, dx } = target;
  const matrices = parts.backwardMatrices(layer);
  const rows = passRows(layer, x, routing, temporaries);
  const saved = savedRows(pass, temporaries);
  const dSlots = expertsBackward(
    { layer, matrices, x, dy, rows, saved },
    { memory: gradients.memoryOf(layer), accumulate, dx },
  );
  if (!hasOwnSlots(layer)) return dSlots;
  temporaries.keep(dSlots);
  const { sharedExperts } = layer.description;
  const { gate } = rows;
  using made = new Made();
  const { dWeights, dGate } = sharedSlotsBackward(routing.weights, dSlots, { sharedExperts, ...(gate && { gate }) });
  made.own(dWeights);
  if (dGate) {
    temporaries.keep(dGate);
    const weight = temporaries.keep(copiedProjection(layer, "sharedGate", dGate.shape[1] as number));
    const into = gradients.projection("sharedGate");
    using term = dx.term();
    if (into) projectionBackward({ x, weight, dLogits: dGate, dx: term, into, accumulate });
  }
  return made.returned(dWeights);
}

/** The rows before the activation, computed again if they were not kept. */
function savedRows({ layer, x, routing, pre, multiplied }: BankPass, temporaries: Temporaries): InnerRows {
  if (pre !== undefined) return { pre, multiplied };
  const again = innerRows(layer, x, routing);
  temporaries.keep(again.pre);
  if (again.multiplied) temporaries.keep(again.multiplied);
  return again;
}
