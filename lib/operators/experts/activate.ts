import type { Device } from "../../core/device/device.js";
import { checkInteger, MoeError } from "../../core/errors.js";
import { choice, type Fields, integer, object, optional, type Read } from "../../core/input/options.js";
import { type Activation, activations, type ClampOptions, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkTensor, output } from "../check.js";
import { activationFields, clampOf, clampRecord } from "./activation_options.js";

/** The clamp of the shared experts, which come after all others. */
export interface SharedClamp {
  /** The parameters. */
  clamp: ClampOptions;
  /** [E+1] i32, as {@link sort} gives them. Only offsets[E - experts] is read, from which on all rows have this clamp. */
  offsets: Tensor<"i32">;
  /** How many of the experts are shared. */
  experts: number;
}

/** What is applied to rows between the two products of experts. */
export interface InnerActivation {
  /** Which function. */
  activation: Activation;
  /** Parameters of `swiglu_clamped`, `swiglu_clamped_after` and `situ`; see {@link Clamp} and {@link ClampOptions}. */
  clamp?: ClampOptions | undefined;
  /** Which rows have another clamp; default none. */
  shared?: SharedClamp | undefined;
  /** [R, I] f32, f16 or bf16, multiplies the activation. */
  multiplier?: Tensor<FloatDType> | undefined;
}

export const innerActivationFields = {
  activation: choice(activations),
  clamp: activationFields.clamp,
  shared: optional(
    object(
      { clamp: clampRecord, offsets: tensor<"i32">(), experts: integer(0) } satisfies Fields<SharedClamp>,
      "{ clamp: { limit: 7 }, offsets, experts: 1 }",
    ),
  ),
  multiplier: optional(tensor<FloatDType>()),
} satisfies Fields<InnerActivation>;

/** Options of {@link activate}. */
export interface ActivateOptions extends InnerActivation {
  /** Where to write, [R, I] of any float dtype; default a new tensor of pre's dtype. */
  out?: Tensor<FloatDType> | undefined;
}

const activateOptions = object(
  { ...innerActivationFields, out: optional(tensor<FloatDType>()) } satisfies Fields<ActivateOptions>,
  '{ activation: "swiglu" }',
);

/** An activation and its clamps as devices take them. */
export function checkActivation(
  { activation, clamp: given, shared }: Pick<Read<typeof activateOptions>, "activation" | "clamp" | "shared">,
  device: Device,
) {
  const clamp = clampOf(activation, given);
  if (shared === undefined) return { activation, clamp, sharedClamp: clamp, sharedExperts: 0, offsets: undefined };
  checkTensor("shared.offsets", shared.offsets, ["i32"], ["E+1"], device);
  const most = Math.max(0, shared.offsets.size - 1);
  checkInteger("shared.experts", shared.experts, 0, most);
  return {
    activation,
    clamp,
    sharedClamp: clampOf(activation, shared.clamp, "shared.clamp"),
    sharedExperts: shared.experts,
    offsets: shared.offsets.handle,
  };
}

/** Checks `pre` [R, P] for an activation, and returns [R, I]. */
export function activatedShape(pre: Tensor<FloatDType>, activation: Activation): [number, number] {
  const [rows, columns] = pre.shape as [number, number];
  if (!isGated(activation)) return [rows, columns];
  if (columns % 2 === 0) return [rows, columns / 2];
  throw new MoeError(
    "SHAPE_MISMATCH",
    `pre: expected an even number of columns for ${activation}, I gate values and I up values, got ${columns}`,
  );
}

/**
 * The activation between the two products of experts: inner = activation(pre) · multiplier, in float32 and rounded once.
 * A {@link groupedGemm} with the same activation does this within its product; apart from it, `pre` is there for
 * {@link activationBackward}.
 *
 * If the activation is gated, pre has I gate values and then I up values, and activation(pre) = act(gate) · up.
 *
 * @param pre [R, P] f32, f16 or bf16, with P = 2I if the activation is gated, else I: the first product, bias included.
 * @returns inner [R, I], in the dtype of `out` if given, else of `pre`.
 * @throws INVALID_ARGUMENT (also for overlapping `out`), SHAPE_MISMATCH (also for an odd P with a gated activation),
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function activate<O extends FloatDType>(
  pre: Tensor<FloatDType>,
  options: ActivateOptions & { out: Tensor<O> },
): Tensor<O>;
export function activate<D extends FloatDType>(
  pre: Tensor<D>,
  options: ActivateOptions & { out?: undefined },
): Tensor<D>;
export function activate(pre: Tensor<FloatDType>, options: ActivateOptions): Tensor<FloatDType>;
export function activate(pre: Tensor<FloatDType>, options: ActivateOptions): Tensor<FloatDType> {
  checkTensor("pre", pre, "float", ["R", "P"]);
  const { device } = pre;
  const given = activateOptions(options, "options");
  const { multiplier, out } = given;
  const shape = activatedShape(pre, given.activation);
  checkOptional("multiplier", multiplier, "float", shape, device);
  const { activation, clamp, sharedClamp, sharedExperts, offsets } = checkActivation(given, device);
  const inner = output("out", out, device, shape, out?.dtype ?? pre.dtype, [pre, multiplier, given.shared?.offsets]);
  checkTensor("out", inner, "float", shape, device);
  device.backend.activate({
    pre: pre.handle,
    multiplier: multiplier?.handle,
    inner: inner.handle,
    activation,
    clamp,
    sharedClamp,
    sharedExperts,
    offsets,
  });
  return inner;
}
