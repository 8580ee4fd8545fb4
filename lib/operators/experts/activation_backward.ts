import { boolean, type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkResult, checkTensor } from "../check.js";
import { Outputs } from "../outputs.js";
import { activatedShape, checkActivation, type InnerActivation, innerActivationFields } from "./activate.js";

/** The gradients of an activation's inputs. */
export interface ActivationGradients<D extends FloatDType = FloatDType> {
  /** [R, P] */
  readonly dPre: Tensor<D>;
  /** [R, I], if there is a multiplier. */
  readonly dMultiplier?: Tensor<FloatDType>;
  /** [R, I], what {@link activate} returns, if it is asked for. */
  readonly inner?: Tensor<D>;
}

/** Options of {@link activationBackward}. */
export interface ActivationBackwardOptions extends InnerActivation {
  /** Whether to compute the activation again on the way; default false. */
  inner?: boolean | undefined;
  /**
   * Where to write all that is computed, of any float dtypes. Default new tensors: dMultiplier of the multiplier's dtype,
   * the others of pre's.
   */
  out?: ActivationGradients | undefined;
}

const anyFloat = tensor<FloatDType>();
const backwardOptions = object(
  {
    ...innerActivationFields,
    inner: optional(boolean, false),
    out: optional(results({ dPre: anyFloat, dMultiplier: optional(anyFloat), inner: optional(anyFloat) })),
  } satisfies Fields<ActivationBackwardOptions>,
  '{ activation: "swiglu" }',
);

/**
 * The gradients of {@link activate}, in one pass over memory: dPre = dInner · multiplier · ∂activation/∂pre and
 * dMultiplier = dInner · activation. With `inner: true` also the activation itself, times the multiplier, of which the
 * gradient of the second product's weights is made.
 *
 * For gated activations, dGate = dInner · multiplier · act'(gate) · up and dUp = dInner · multiplier · act(gate). relu'
 * is 0 at 0. The limits of `swiglu_clamped` and `swiglu_clamped_after` are as PyTorch's clamp: the gradient passes at the
 * limit itself and is 0 beyond it, for a gate (or its SiLU) above `limit` and an up value beyond ±upLimit. At infinite
 * values other derivatives are their limits, 0 or 1 (relu2' is infinite).
 *
 * Computed in float32, each result rounded once. NaN stays in its element.
 *
 * @param pre [R, P] f32, f16 or bf16, as {@link activate} took it.
 * @param dInner [R, I] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT (an option out of its range, an `out` with other results than are computed, overlapping `out`),
 * SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function activationBackward<D extends FloatDType>(
  pre: Tensor<D>,
  dInner: Tensor<FloatDType>,
  options: ActivationBackwardOptions & {
    /** Return the activation too. */
    inner: true;
  },
): ActivationGradients<D> & Required<Pick<ActivationGradients<D>, "inner">>;
export function activationBackward<D extends FloatDType>(
  pre: Tensor<D>,
  dInner: Tensor<FloatDType>,
  options: ActivationBackwardOptions,
): ActivationGradients<D>;
export function activationBackward(
  pre: Tensor<FloatDType>,
  dInner: Tensor<FloatDType>,
  options: ActivationBackwardOptions,
): ActivationGradients {
  checkTensor("pre", pre, "float", ["R", "P"]);
  const { device } = pre;
  const given = backwardOptions(options, "options");
  const { multiplier, inner: wantsInner, out } = given;
  const shape = activatedShape(pre, given.activation);
  const { activation, clamp, sharedClamp, sharedExperts, offsets } = checkActivation(given, device);
  checkTensor("dInner", dInner, "float", shape, device);
  checkOptional("multiplier", multiplier, "float", shape, device);
  checkResult(out, "dMultiplier", multiplier !== undefined, "multiplier");
  checkResult(out, "inner", wantsInner, "inner: true");

  using outputs = new Outputs(device, [pre, dInner, multiplier, given.shared?.offsets]);
  const result = (name: keyof ActivationGradients, size: readonly number[], dtype: FloatDType) => {
    const own = out?.[name];
    const tensor = outputs.next(`out.${name}`, own, size, own?.dtype ?? dtype);
    checkTensor(`out.${name}`, tensor, "float", size, device);
    return tensor;
  };
  const dPre = result("dPre", pre.shape, pre.dtype);
  const dMultiplier = multiplier && result("dMultiplier", shape, multiplier.dtype);
  const inner = wantsInner ? result("inner", shape, pre.dtype) : undefined;
  device.backend.activationBackward({
    pre: pre.handle,
    multiplier: multiplier?.handle,
    dInner: dInner.handle,
    dPre: dPre.handle,
    dMultiplier: dMultiplier?.handle,
    inner: inner?.handle,
    activation,
    clamp,
    sharedClamp,
    sharedExperts,
    offsets,
  });
  return outputs.returned({ dPre, ...(dMultiplier && { dMultiplier }), ...(inner && { inner }) });
}
