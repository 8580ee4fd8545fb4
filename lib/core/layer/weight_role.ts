/** The weights of a layer by what they do in it; native/core/layer/weight_role.h is the same list. */
export type WeightRole =
  | "router"
  | "routerBias"
  | "sharedGate"
  | "sharedGateBias"
  | "gate"
  | "up"
  | "multiplier"
  | "down"
  | "gateBias"
  | "upBias"
  | "downBias";

/** The tensors of a quantised matrix, as fields of QuantizedWeight; native/core/formats/quantized_field.h is the same list. */
export type QuantizedField = "codes" | "scales" | "superScales" | "zeros" | "superZeros" | "inputScale" | "inputOrder";
