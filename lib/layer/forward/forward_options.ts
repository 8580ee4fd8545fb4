import { abortSignal } from "../../core/device/cancellation.js";
import { boolean, choice, type Fields, list, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { type Routing, routingRecord } from "../../operators/routing/gating.js";
import type { LayerState } from "../backward/layer_state.js";
import { type TokenIds, tokenIdsOption } from "../router/token_ids.js";
import { type Training, trainingOption } from "../router/training.js";
import { type NormOption, normOption, residualOption } from "./norm_and_residual.js";

/** Options of {@link MoeLayer.forward}. */
export interface ForwardOptions<D extends FloatDType = FloatDType> {
  /**
   * The tokens that the router reads instead of x, of x's shape and any float dtype: for a layer with `separateRouterInput`,
   * unless a routing is given.
   */
  routerInput?: Tensor<FloatDType> | undefined;
  /**
   * The ids of the tokens in the vocabulary, for a layer with `hashRouting`, unless a routing or `expertIds` are given: a
   * tensor [T] or [B, S] i32, or a list of T or B * S numbers. -1 is padding, a token without experts. In a list, any other
   * id out of range is refused; in a tensor, it counts as -1 and is ID_OUT_OF_RANGE at the next wait.
   */
  tokenIds?: TokenIds | undefined;
  /**
   * The experts of the tokens [T or B * S, topK], chosen before, such as by the engine that generated them (routing replay):
   * the layer only gives their weights, by its own router and rule, and `backward` trains that router. -1 is no expert, one
   * that is there twice counts twice, and any other id out of range counts as -1 and is ID_OUT_OF_RANGE at the next wait. The
   * order matters to `capacity` and `sparsemixer` alone. A routing that is wanted shares them, if there is no `capacity`.
   * Not for a layer with `hierarchy` or `expertChoice`, nor with `routing` or `tokenIds`, whose place it takes.
   */
  expertIds?: Tensor<"i32"> | undefined;
  /**
   * The router's logits [T or B * S, E] f32, computed elsewhere, to use instead of those of the layer's router, which then reads
   * nothing; the layer's rule makes the routing of them. NaN for an expert that is not to be chosen: -Infinity is a score of 0,
   * to which a selection bias is added. Not for a layer with `hierarchy`, nor with `routing`, `routerInput`, `training` or
   * `save`.
   */
  logits?: Tensor<"f32"> | undefined;
  /** Ids and weights [T or B * S, k], with any k, to use instead of the layer's own routing. */
  routing?: Routing | undefined;
  /**
   * Route with the layer's noise (`noisy` or `routerJitter`), drawn from a seed, or given as noise [T or B * S, E] (with
   * `hierarchy`, also groupNoise [T or B * S, G]); default without noise.
   */
  training?: Training | undefined;
  /** Keep what {@link MoeLayer.backward} needs, and return `{ y, state }`; default false. */
  save?: boolean | undefined;
  /** With `save`: keep only x and the routing, and compute the rest again in the backward pass; default false. */
  recompute?: boolean | undefined;
  /**
   * With `save`: where the device has memory of its own, keep the state in the host's, and copy it back for the backward
   * pass; default false.
   */
  offload?: boolean | undefined;
  /**
   * Normalise x first: everything in the layer, router included, then gets RMSNorm(x), rounded to x's dtype; but not
   * `routerInput`.
   */
  norm?: NormOption | undefined;
  /**
   * What is added to y before it is rounded: true for x as it was given (before `norm`), or a tensor [T, H] or [B, S, H];
   * default nothing. Of a layer's banks only one must add it.
   */
  residual?: boolean | Tensor<FloatDType> | undefined;
  /**
   * Cancels the work that has not begun when it is aborted: reading y, or what else the forward was to write, is then
   * ABORTED, with the signal's reason as its `cause`. The layer and the device go on. With `save`, wait for y before a backward
   * pass, and leave that out if y is ABORTED: an optimiser's step of its gradients would lose the weights. Default none.
   */
  signal?: AbortSignal | undefined;
  /** What else to return, in an object `{ y, routing, logits }`; default nothing. */
  want?: readonly ForwardResultName[] | undefined;
  /** Where to write y; default a new tensor. */
  out?: Tensor<NoInfer<D>> | undefined;
}

const forwardResultNames = ["routing", "logits"] as const;
/**
 * Results of a forward besides y: the `routing` that it used (ids and weights [T, k], as {@link MoeLayer.route} gives them),
 * and the router's `logits` [T, E], without noise.
 *
 * @useDeclaredType
 */
export type ForwardResultName = (typeof forwardResultNames)[number];

/** What {@link MoeLayer.forward} returns with `save` or `want`. */
export interface ForwardResult<D extends FloatDType = FloatDType> {
  /** The output, with the shape and dtype of x. */
  readonly y: Tensor<D>;
  /** With `save`. */
  readonly state?: LayerState;
  /** These two if they are wanted. */
  readonly routing?: Routing;
  /** [T, E] f32, without noise, if they are wanted. */
  readonly logits?: Tensor<"f32">;
}

/** What {@link MoeLayer.forward} returns with `want`: y, and what is wanted. */
export type WantedForward<D extends FloatDType, Wanted extends ForwardResultName> = Pick<ForwardResult<D>, "y"> &
  Required<Pick<ForwardResult<D>, Wanted>>;

/** What {@link MoeLayer.forward} returns with `save`. */
export interface SavedForward<D extends FloatDType = FloatDType> extends ForwardResult<D> {
  readonly state: LayerState;
}

/** The readers of these options. */
export const forwardFields = {
  routerInput: optional(tensor<FloatDType>()),
  tokenIds: optional(tokenIdsOption),
  expertIds: optional(tensor<"i32">()),
  logits: optional(tensor<"f32">()),
  routing: optional(routingRecord),
  training: optional(trainingOption),
  save: optional(boolean, false),
  recompute: optional(boolean, false),
  offload: optional(boolean, false),
  norm: optional(normOption),
  residual: optional(residualOption),
  signal: optional(abortSignal),
  want: optional(list(choice(forwardResultNames))),
  out: optional(tensor<FloatDType>()),
} satisfies Fields<ForwardOptions>;

export const forwardOptions = object(forwardFields, "{ out }");

/** The options of a forward that is given none, as most are. */
export const noForwardOptions = forwardOptions({}, "options");

/** What a forward with `save` or `want` returns. */
export function forwardResult<D extends FloatDType>(
  y: Tensor<D>,
  logits: Tensor<"f32"> | undefined,
  routing: Routing | undefined,
  state?: LayerState,
): ForwardResult<D> {
  return { y, ...(state && { state }), ...(routing && { routing }), ...(logits && { logits }) };
}
