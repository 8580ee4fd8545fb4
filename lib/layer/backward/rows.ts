import { isDeepStrictEqual } from "node:util";
import { sharedGateRows } from "../../core/layer/shared_gate.js";
import { innerStages } from "../../core/layer/stages.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { resultDType } from "../../operators/check.js";
import { activate } from "../../operators/experts/activate.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import { combineBackward } from "../../operators/experts/combine_backward.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import type { Routing } from "../../operators/routing/gating.js";
import { routerProjection } from "../../operators/routing/router_projection.js";
import { sharedSlots } from "../../operators/routing/shared_slots.js";
import { type SortedRows, sort } from "../../operators/routing/sort.js";
import type { DeviceLayer } from "../device_layer.js";
import { emptyInnerRows, type InnerRows } from "../forward/inner_rows.js";
import type { Temporaries } from "../temporaries.js";
import { type BackwardMatrices, type CopiedMatrices, copiedBias, copiedProjection } from "./matrices.js";

/** The rows of a pass: those of every token's slots, its chosen and the shared experts, in the order of experts. */
export interface PassRows extends SortedRows {
  /** [T, S] f32, the weights of the slots. */
  readonly weights: Tensor<"f32">;
  /** [T, G] f32: what the shared experts' gate gives, if there is one. */
  readonly gate: Tensor<"f32"> | undefined;
}

/** Sorts the slots of a routing; the rows are kept in `temporaries`. */
export function passRows(
  layer: DeviceLayer,
  x: Tensor<FloatDType>,
  { ids, weights }: Routing,
  temporaries: Temporaries,
): PassRows {
  const { numExperts, sharedExperts, sharedGate, bank } = layer.description;
  const gate = sharedGate === "none" ? undefined : temporaries.keep(gateOutputs(layer, x));
  if (!hasOwnSlots(layer)) return { ...sortedRows(ids, numExperts, temporaries), weights, gate };
  const slots = sharedSlots(ids, weights, { numExperts, sharedExperts, bank, ...(gate && { gate }) });
  const sorted = sortedRows(temporaries.keep(slots.ids), layer.expertCount, temporaries);
  return { ...sorted, weights: temporaries.keep(slots.weights), gate };
}

/** Whether the slots of tokens are not their choices as they are. */
export function hasOwnSlots({ description }: DeviceLayer): boolean {
  const { numExperts, sharedExperts, sharedGate, bank } = description;
  return sharedExperts > 0 || sharedGate === "softmax" || bank.count < numExperts;
}

function sortedRows(ids: Tensor<"i32">, numExperts: number, temporaries: Temporaries): SortedRows {
  const sorted = sort(ids, { numExperts });
  for (const tensor of Object.values(sorted)) temporaries.keep(tensor);
  return sorted;
}

function gateOutputs(layer: DeviceLayer, x: Tensor<FloatDType>): Tensor<"f32"> {
  const outputs = sharedGateRows(layer.description.sharedGate);
  using weight = copiedProjection(layer, "sharedGate", outputs);
  const bias = copiedBias(layer, "sharedGateBias", outputs, resultDType(x));
  const gate = routerProjection(x, weight, { ...(bias && { bias }) });
  bias?.dispose();
  return gate;
}

/** [R, N], the token of every row, times the weight of the row's slot. */
export function weightedRows({ rowOfSlot, weights }: PassRows, x: Tensor<FloatDType>): Tensor<FloatDType> {
  return combineBackward(null, rowOfSlot, weights, x, { want: "dRows" }).dRows;
}

/** Computes the rows of a routing before the activation. */
export function innerRows(layer: DeviceLayer, x: Tensor<FloatDType>, routing: Routing): InnerRows {
  const rows = emptyInnerRows(layer, routing.ids.shape as [number, number], x.dtype);
  layer.forwardRouted({ x: x.handle, y: null, routing, maxChoices: -1, rows, stages: innerStages });
  return rows;
}

/** The activation of all rows, as options of `activate`. */
export function rowActivation({ description }: DeviceLayer, { offsets }: PassRows, { multiplied }: InnerRows) {
  const { clamp, sharedClamp, sharedExperts: experts } = description;
  const shared = !isDeepStrictEqual(clamp, sharedClamp) && { shared: { clamp: sharedClamp, offsets, experts } };
  return { ...activationOf(description), ...shared, ...(multiplied && { multiplier: multiplied }) };
}

/** [R, I], the activation of all rows. */
export function activatedRows(layer: DeviceLayer, rows: PassRows, inner: InnerRows): Tensor<FloatDType> {
  return activate(inner.pre, rowActivation(layer, rows, inner));
}

/** [R, H] f32: what the experts give for every row, before the softmax of the output. */
export function outputRows(matrices: BackwardMatrices, inner: Tensor<FloatDType>, rows: PassRows): Tensor<"f32"> {
  const { downBias: bias } = matrices;
  const { packed } = matrices.downForward as CopiedMatrices;
  const { device } = inner;
  const hidden = packed.shape[1] as number;
  const out = device.empty([rows.tokenOfRow.size, hidden], rows.weights.dtype);
  return groupedGemm(inner, packed, rows.offsets, { ...(bias && { bias }), out });
}
