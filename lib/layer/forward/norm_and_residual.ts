import { boolean, type Fields, object, type Read, type Reader } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkPair, checkTensor } from "../../operators/check.js";
import { type RmsNormNumbers, rmsNormFields } from "../../operators/experts/rms_norm.js";
import { withMatrix } from "../router/tokens.js";

/** The RMSNorm in front of a layer: of x over H, with the formula of {@link rmsNorm}. */
export interface NormOption extends RmsNormNumbers {
  /** [H] f32, f16 or bf16. */
  weight: Tensor<FloatDType>;
}

export const normOption = object(
  { weight: tensor<FloatDType>(), ...rmsNormFields } satisfies Fields<NormOption>,
  "{ weight, epsilon: 1e-5 }",
);

/** A norm as it was read. */
export type Norm = Read<typeof normOption>;

/** Whether x is the residual, or another tensor that is. */
export const residualOption: Reader<boolean | Tensor<FloatDType>> = (value, name) =>
  value instanceof Tensor ? (value as Tensor<FloatDType>) : boolean(value, name);

/** Checks a layer's norm against its tokens. */
export function checkNorm(norm: Norm, x: Tensor<FloatDType>): void {
  checkTensor("norm.weight", norm.weight, "float", [x.shape.at(-1) as number], x.device);
  checkPair(x, norm.weight, "norm.weight");
}

/** The tensor that is added to the outputs for tokens x, checked. */
export function residualOf(
  residual: boolean | Tensor<FloatDType> | undefined,
  x: Tensor<FloatDType>,
): Tensor<FloatDType> | undefined {
  if (residual === undefined || typeof residual === "boolean") return residual ? x : undefined;
  checkTensor("residual", residual, "float", x.shape, x.device);
  checkPair(x, residual, "residual");
  return residual;
}

/** The normalised tokens, of x's shape and dtype. */
export function normalised<D extends FloatDType>(
  x: Tensor<D>,
  { weight, epsilon, offset }: Norm,
  y: Tensor<D> = x.device.empty(x.shape, x.dtype),
): Tensor<D> {
  withMatrix(x, (from) =>
    withMatrix(y, (to) => {
      x.device.backend.rmsNorm({ x: from, weight: weight.handle, y: to, epsilon, offset });
    }),
  );
  return y;
}
