import type { FloatDType } from "../../core/dtype.js";
import { MoeError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { TensorHandle } from "../../core/tensor_handle.js";
import { checkTensor, resultDType } from "../../operators/check.js";
import type { DeviceLayer } from "../device_layer.js";

/** A layer's gates: that of the experts, and in a hierarchy that of their groups. */
export type GateName = "experts" | "groups";

/** The tokens of x [T, H], one sequence, or [B, S, H]. */
export interface Tokens {
  /** T, or B * S. */
  readonly count: number;
  readonly sequenceLength: number;
  readonly inputDType: FloatDType;
  /** Of routing weights and logits that go with them; f64 on `reference` only. */
  readonly dtype: "f32";
}

/** Checks that x is [T, H] or [B, S, H] and goes with the layer's weights. */
export function checkTokens({ description, device }: DeviceLayer, x: Tensor<FloatDType>): Tokens {
  const { hiddenSize, weightDType } = description;
  const sequences = (x as Partial<Tensor>)?.shape?.length === 3;
  checkTensor("x", x, "float", sequences ? ["B", "S", hiddenSize] : ["T", hiddenSize], device);
  checkGoesWithWeights("x", x.dtype, weightDType);
  const [first, second] = x.shape as [number, number];
  const dtype = resultDType(x);
  const count = sequences ? first * second : first;
  return { count, sequenceLength: sequences ? second : first, inputDType: x.dtype, dtype };
}

/** Checks that tokens of this dtype go with weights of that: f64 only with f64. */
export function checkGoesWithWeights(parameter: string, dtype: FloatDType, weightDType: string): void {
  if ((dtype === "f64") === (weightDType === "f64")) return;
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `${parameter}: expected a dtype that goes with weights of ${weightDType}, got ${dtype}`,
  );
}

/** Calls `use` with a handle on x as a matrix of tokens. */
export function withMatrix<T>(x: Tensor, use: (matrix: TensorHandle) => T): T {
  if (x.shape.length === 2) return use(x.handle);
  const [sequences, length, hidden] = x.shape as [number, number, number];
  const matrix = x.handle.view([sequences * length, hidden], 0);
  try {
    return use(matrix);
  } finally {
    matrix.free();
  }
}
