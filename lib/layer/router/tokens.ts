import { cannotCombine, invalidArgument, MoeError, requires } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { checkTensor, resultDType } from "../../operators/check.js";
import type { DeviceLayer } from "../device_layer.js";

/** A layer's gates: for experts and, in a hierarchy, for groups. */
export type GateName = "experts" | "groups";

/** The tokens of x: [T, H] is one sequence, [B, S, H] is B sequences. */
export interface Tokens {
  /** T, or B * S. */
  readonly count: number;
  readonly sequenceLength: number;
  readonly inputDType: FloatDType;
  /** Dtype of the routing weights and logits for these tokens; f64 only on `reference`. */
  readonly dtype: "f32";
  /** [T], their ids in the vocabulary, where a layer with `hashRouting` is to choose experts. */
  readonly ids?: Tensor<"i32"> | undefined;
  /** [T, k], their experts, where these are given and the router only weighs them. */
  readonly expertIds?: Tensor<"i32"> | undefined;
  /** [T, E], where these are given instead of the router's. */
  readonly logits?: Tensor<"f32"> | undefined;
}

/** Checks that x is [T, H] or [B, S, H], with a dtype that the layer's weights can be multiplied with. */
export function checkTokens(
  { description, device }: Pick<DeviceLayer, "description" | "device">,
  x: Tensor<FloatDType>,
): Tokens {
  const { hiddenSize, weightDType } = description;
  const sequences = x instanceof Tensor && x.rank === 3;
  checkTensor("x", x, "float", sequences ? ["B", "S", hiddenSize] : ["T", hiddenSize], device);
  checkGoesWithWeights("x", x.dtype, weightDType);
  const [first, second] = x.shape as [number, number];
  const dtype = resultDType(x);
  const count = sequences ? first * second : first;
  return { count, sequenceLength: sequences ? second : first, inputDType: x.dtype, dtype };
}

/** The same tokens, with what the caller gives for them. Spread syntax would take longer than all other checks of a call. */
export function withGiven(
  { count, sequenceLength, inputDType, dtype }: Tokens,
  { ids, expertIds, logits }: Pick<Tokens, "ids" | "expertIds" | "logits">,
): Tokens {
  return { count, sequenceLength, inputDType, dtype, ids, expertIds, logits };
}

/** The same tokens, as a router reads them in a tensor of its own. */
export function readFrom(tokens: Tokens, { dtype }: Tensor<FloatDType>): Tokens {
  return { ...tokens, inputDType: dtype };
}

/**
 * Checks the tokens of a router that reads others than the experts, for those x of the experts.
 * @param instead the name of what is given, so that the router does not read them; undefined if it does.
 */
export function checkRouterInput(
  { description, device }: Pick<DeviceLayer, "description" | "device">,
  routerInput: Tensor<FloatDType> | undefined,
  x: Tensor<FloatDType>,
  instead: string | undefined,
): void {
  if (routerInput === undefined) {
    if (!description.separateRouterInput || instead !== undefined) return;
    throw invalidArgument("routerInput", "the tokens that this layer's router reads, shaped like x", routerInput);
  }
  if (!description.separateRouterInput) throw requires("routerInput", "a layer with separateRouterInput");
  if (instead !== undefined) throw cannotCombine("routerInput", instead);
  checkTensor("routerInput", routerInput, "float", x.shape, device);
  checkGoesWithWeights("routerInput", routerInput.dtype, description.weightDType);
}

/** Checks that tokens of `dtype` can be multiplied with weights of `weightDType`: f64 only with f64. */
export function checkGoesWithWeights(parameter: string, dtype: FloatDType, weightDType: string): void {
  if ((dtype === "f64") === (weightDType === "f64")) return;
  const expected = weightDType === "f64" ? "f64" : "f32, f16 or bf16";
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `${parameter}: expected ${expected} for weights of ${weightDType}, got ${dtype}`,
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
