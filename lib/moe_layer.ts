import { inspect } from "node:util";
import type { CacheStatus } from "./checkpoint/cache/weight_cache.js";
import { type SaveOptions, saveLayer } from "./checkpoint/layer_file/save_layer.js";
import {
  type LoadFileOptions,
  type LoadGivenOptions,
  type LoadOptions,
  loadLayer,
} from "./checkpoint/load/load_layer.js";
import { withSignal } from "./core/device/cancellation.js";
import type { Device } from "./core/device/device.js";
import { checkMadeBy } from "./core/device/own_class.js";
import { ThreadBound } from "./core/device/thread_bound.js";
import { checkInteger, requires } from "./core/errors.js";
import type { FilePath } from "./core/files/file_path.js";
import { boolean, type Fields, floatDType, object, optional } from "./core/input/options.js";
import type { StageTimes } from "./core/layer/stages.js";
import type { FloatDType } from "./core/tensors/dtype.js";
import { Made } from "./core/tensors/made.js";
import type { Tensor } from "./core/tensors/tensor.js";
import { tensor } from "./core/tensors/tensor_option.js";
import {
  type BackwardOptions,
  backwardOptions,
  type LayerBackward,
  layerBackward,
} from "./layer/backward/layer_backward.js";
import { LayerParameters, type ParametersOptions, parametersOptions } from "./layer/backward/layer_parameters.js";
import type { LayerState } from "./layer/backward/layer_state.js";
import { createLayer, type MoeLayerOptions } from "./layer/create.js";
import type { MoeLayerDescription } from "./layer/description/config.js";
import { CapturedForward, type CaptureOptions } from "./layer/forward/captured_forward.js";
import {
  type ForwardOptions,
  type ForwardResult,
  type ForwardResultName,
  forwardOptions,
  noForwardOptions,
  type SavedForward,
  type WantedForward,
} from "./layer/forward/forward_options.js";
import { layerForward } from "./layer/forward/layer_forward.js";
import { normOption } from "./layer/forward/norm_and_residual.js";
import { LayerParts } from "./layer/layer_parts.js";
import type { ExpertOffload } from "./layer/offload.js";
import { checkExpertIds, checkLogits, checkTakesExpertIds, checkTakesLogits } from "./layer/router/given_routing.js";
import { type TokenIds, tokenIdsOnDevice, tokenIdsOption } from "./layer/router/token_ids.js";
import { checkGoesWithWeights, checkTokens, withMatrix } from "./layer/router/tokens.js";
import { checkTraining, type Training, type TrainingLogits, trainingOption } from "./layer/router/training.js";
import { weight } from "./layer/weights/weight_layout.js";
import { resultDType } from "./operators/check.js";
import type { Routing } from "./operators/routing/gating.js";

const routeOptions = object(
  {
    tokenIds: optional(tokenIdsOption),
    expertIds: optional(tensor<"i32">()),
    logits: optional(tensor<"f32">()),
    training: optional(trainingOption),
  },
  "{ training: { seed: 1 } }",
);
const captureOptions = object(
  {
    dtype: optional(floatDType),
    norm: optional(normOption),
    residual: optional(boolean, false),
    expertIds: optional(boolean, false),
    logits: optional(boolean, false),
  } satisfies Fields<CaptureOptions>,
  "{ dtype }",
);

/**
 * One mixture-of-experts layer on a device: y = Σⱼ wⱼ · downᵢⱼ(act(gateᵢⱼ x) * (upᵢⱼ x)) over the k chosen experts of
 * each token. The weights are repacked into the device's fastest layout once, when the layer is made.
 */
export class MoeLayer extends ThreadBound implements Disposable {
  readonly #parts: LayerParts;
  readonly #cacheStatus: CacheStatus | undefined;

  /** @internal Use {@link MoeLayer.create} or {@link MoeLayer.load}. */
  constructor(parts: LayerParts, cacheStatus?: CacheStatus) {
    super();
    checkMadeBy("MoeLayer.create(options) or MoeLayer.load(path, options)", MoeLayer, parts instanceof LayerParts);
    this.#parts = parts;
    this.#cacheStatus = cacheStatus;
    parts.offload?.loadPinned();
  }

  /** Where its weights are. */
  get device(): Device {
    return this.#parts.device;
  }

  /** The layer's sizes and formula; frozen. */
  get description(): MoeLayerDescription {
    return this.#parts.description;
  }

  /**
   * Makes a layer from tensors. The copies are enqueued on the device; the tensors may be disposed of right after.
   * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, OUT_OF_MEMORY.
   */
  static create(options: MoeLayerOptions): MoeLayer {
    return new MoeLayer(createLayer(options));
  }

  /**
   * Loads a layer from a Hugging Face model directory (config.json and safetensors), from a GGUF file NAME.gguf (of a
   * model in several, the first), or from a layer file NAME.safetensors, which holds one layer and describes it in its
   * metadata. With `config` and `tensors`, loads a layer from any of these that does not describe itself, or whose family
   * is not known.
   * @throws BAD_CHECKPOINT, naming what is missing or wrong; the errors of {@link MoeLayer.create}; the signal's reason.
   * With a `cache`, BAD_CHECKPOINT can also surface at a wait after a forward; see {@link LoadOptions}.
   */
  static load(path: FilePath, options: LoadOptions): Promise<MoeLayer>;
  static load(path: FilePath, options: LoadFileOptions): Promise<MoeLayer>;
  static load(path: FilePath, options: LoadGivenOptions): Promise<MoeLayer>;
  static async load(path: FilePath, options: LoadOptions | LoadFileOptions | LoadGivenOptions): Promise<MoeLayer> {
    const { parts, cacheStatus } = await loadLayer(path, options);
    return new MoeLayer(parts, cacheStatus);
  }

  /**
   * Writes the layer, with its weights as they are now, to a layer file: {@link MoeLayer.load} makes a layer of it that
   * computes the same, on the same device bit for bit. Quantised weights are written as they are. The file is written
   * tensor by tensor and appears under its name once it is complete and on disk. Weights must not change meanwhile.
   * @param file ends in `.safetensors`, and does not exist unless `overwrite` is true.
   * @throws INVALID_ARGUMENT for another name, for a file that is there, and if a weight changes meanwhile; DISPOSED;
   * UNSUPPORTED_OPERATION for a layer with offload, for a shared expert that was quantised in parts, and on `reference`
   * for a quantised matrix with a `scalar`; WRITE_FAILED if the file cannot be written; the signal's reason.
   */
  async save(file: FilePath, options: SaveOptions = {}): Promise<void> {
    await saveLayer(this.#parts, file, options);
  }

  /**
   * Bytes of the layer's weights on the device; complete once the work that sets them is done. With `offload`, those of
   * the slots instead of the experts; a budget that it shares has those itself.
   */
  get byteLength(): number {
    return this.#parts.byteLength;
  }

  /** The outcome of the cache of packed weights; undefined if {@link MoeLayer.load} was not asked for one. */
  get cacheStatus(): CacheStatus | undefined {
    return this.#cacheStatus;
  }

  /** The experts that come and go; undefined for a layer without the option `offload`. */
  get offload(): ExpertOffload | undefined {
    return this.#parts.offload;
  }

  /**
   * Replaces the selection bias [E], in order with the enqueued work, as training with loss-free balancing does.
   * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; INVALID_ARGUMENT if the layer's routing
   * cannot use a bias; UNSUPPORTED_OPERATION if the weights are those of a cache file.
   */
  setSelectionBias(bias: Tensor<FloatDType>): void {
    this.#parts.router.weights.setSelectionBias(weight(bias, "selectionBias"));
  }

  /**
   * The layer's output for tokens x [T, H], or for B sequences [B, S, H], with x's shape and dtype. Sequences only
   * matter for a capacity per sequence. A layer with `separateRouterInput` needs the option `routerInput` too, and one with
   * `hashRouting` needs `tokenIds`. With `expertIds` the experts are given, and the router gives their weights; with `logits`
   * the layer's rule makes the routing of these. With
   * `{ norm: { weight }, residual: true }` the output is that of a model's block: y = x + layer(RMSNorm(x)), whose sum is
   * rounded once.
   * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`); with
   * `save`, UNSUPPORTED_OPERATION for offload, and OUT_OF_MEMORY; the reason of a signal that is aborted already.
   */
  forward<D extends FloatDType, const Wanted extends readonly ForwardResultName[]>(
    x: Tensor<D>,
    options: ForwardOptions<D> & { save: true; want: Wanted },
  ): SavedForward<D> & WantedForward<D, Wanted[number]>;
  forward<D extends FloatDType>(x: Tensor<D>, options: ForwardOptions<D> & { save: true }): SavedForward<D>;
  forward<D extends FloatDType, const Wanted extends readonly ForwardResultName[]>(
    x: Tensor<D>,
    options: ForwardOptions<D> & { want: Wanted },
  ): WantedForward<D, Wanted[number]>;
  forward<D extends FloatDType>(
    x: Tensor<D>,
    options?: ForwardOptions<D> & { save?: false | undefined; want?: undefined },
  ): Tensor<D>;
  forward<D extends FloatDType>(x: Tensor<D>, options?: ForwardOptions<D>): Tensor<D> | ForwardResult<D>;
  forward<D extends FloatDType>(x: Tensor<D>, options?: ForwardOptions<D>): Tensor<D> | ForwardResult<D> {
    const tokens = checkTokens(this.#parts.onDevice, x);
    const read = options === undefined ? noForwardOptions : forwardOptions(options, "options");
    return withSignal(this.#parts.device, read.signal, () => layerForward(this.#parts, x, tokens, read));
  }

  /**
   * The gradients of a forward with `save`: dx (and dRouterInput) from dy, through `norm` and also past it if x was the
   * residual (the gradient of a residual that was given is dy itself), and those of the layer's weights in float32, named
   * and shaped like what {@link MoeLayer.create} takes. The choice of experts is held fixed; dropped choices get none. Sums over
   * tokens have a fixed order, so results have the same bits on every run and with any number of threads.
   *
   * The first `save` or backward of a layer copies its experts, transposed, which takes as much memory as the layer's own
   * (part of {@link byteLength} from then on). Quantised experts are dequantised for it, to 4 bytes a weight, and get no
   * gradients themselves; the rounding of tokens to 8 bits is ignored in their gradients.
   * @param state what the forward returned. It is used up and freed, unless an argument is refused.
   * @param dy like y; NaN in a row goes to this token's dx and to the gradients of what it was multiplied with.
   * @throws DISPOSED for a state that was used, INVALID_ARGUMENT for another layer's, or if the layer's weights have
   * changed since; SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, OUT_OF_MEMORY; UNSUPPORTED_OPERATION if gradients
   * of quantised experts are asked for.
   */
  backward<D extends FloatDType>(state: LayerState, dy: Tensor<D>, options: BackwardOptions = {}): LayerBackward<D> {
    const read = backwardOptions(options, "options");
    return layerBackward(this.#parts, state, dy, read) as LayerBackward<D>;
  }

  /**
   * The layer's weights in float32, to be trained, and memory for their gradients; see {@link LayerParameters}. Each call
   * makes new ones from the layer's present weights. Train by one of them: once it has changed the layer, older ones cannot.
   * @throws UNSUPPORTED_OPERATION for offload, for the weights of a cache file, or if quantised experts are asked for;
   * OUT_OF_MEMORY, DISPOSED.
   */
  parameters(options: ParametersOptions = {}): LayerParameters {
    const dtype = resultDType({ dtype: this.#parts.description.weightDType });
    return new LayerParameters(this.#parts, dtype, parametersOptions(options, "options"));
  }

  /**
   * Only the layer's routing: ids [T, k] i32 and weights [T, k] f32 for tokens x [T, H], or [B * S, k] for sequences
   * [B, S, H]. A choice dropped by `capacity` has id -1 and weight 0.
   * @param x what the router reads: of a layer with `separateRouterInput` the `routerInput` of {@link forward}, here and in
   * the functions below.
   * @param options.tokenIds as in {@link forward}.
   * @param options.expertIds as in {@link forward}.
   * @param options.logits as in {@link forward}.
   * @param options.training as in {@link forward}.
   * @throws the errors of {@link forward}.
   */
  route(
    x: Tensor<FloatDType>,
    options: {
      tokenIds?: TokenIds | undefined;
      expertIds?: Tensor<"i32"> | undefined;
      logits?: Tensor<"f32"> | undefined;
      training?: Training | undefined;
    } = {},
  ): Routing {
    const { onDevice, router } = this.#parts;
    const tokens = checkTokens(onDevice, x);
    const { tokenIds, expertIds, logits, training } = routeOptions(options, "options");
    if (training !== undefined) checkTraining(onDevice, training, tokens);
    if (expertIds !== undefined) checkExpertIds(onDevice, expertIds, tokens);
    if (logits !== undefined) checkLogits(onDevice, logits, tokens, { training });
    using ids = tokenIdsOnDevice(onDevice, tokenIds, x.shape, expertIds && "expertIds");
    return withMatrix(x, (input) => router.route(input, { ...tokens, ids, expertIds, logits }, training));
  }

  /**
   * The router's logits, before scoring: [T, E] f32 for tokens x [T, H], or [B * S, E] for sequences [B, S, H].
   * @throws the errors of {@link forward}.
   */
  routerLogits(x: Tensor<FloatDType>): Tensor<"f32"> {
    const tokens = checkTokens(this.#parts.onDevice, x);
    return withMatrix(x, (input) => this.#parts.router.logits(input, tokens, "experts"));
  }

  /**
   * The logits of the groups' router of a layer with `hierarchy`: [T, G] f32, or [B * S, G].
   * @throws INVALID_ARGUMENT for a layer without `hierarchy`, and the errors of {@link forward}.
   */
  groupLogits(x: Tensor<FloatDType>): Tensor<"f32"> {
    const tokens = checkTokens(this.#parts.onDevice, x);
    if (this.#parts.description.hierarchy === undefined) throw requires("groupLogits", "a layer with hierarchy");
    return withMatrix(x, (input) => this.#parts.router.logits(input, tokens, "groups"));
  }

  /**
   * What {@link expertLoad} takes, for a layer with `noisy`: the noisy logits that it routes by in training, their
   * deviation and the clean logits, all [T, E] or [B * S, E]. With `hierarchy` also those of the groups.
   * @throws INVALID_ARGUMENT for a layer without `noisy`, and the errors of {@link forward}.
   */
  trainingLogits(x: Tensor<FloatDType>, training: Training): TrainingLogits {
    const tokens = checkTokens(this.#parts.onDevice, x);
    const source = trainingOption(training, "training");
    checkTraining(this.#parts.onDevice, source, tokens);
    const { router } = this.#parts;
    const { noisy, hierarchy } = this.#parts.description;
    if (noisy === undefined) throw requires("trainingLogits", "a layer with noisy");
    return withMatrix(x, (input) => {
      using made = new Made();
      const experts = router.noisyLogits(input, tokens, source, "experts");
      for (const logits of [experts.clean, experts.logits, experts.deviation]) made.own(logits);
      const groups = hierarchy && router.noisyLogits(input, tokens, source, "groups");
      return made.returned({ ...experts, ...(groups && { groups }) });
    });
  }

  /**
   * A {@link CapturedForward} of one sequence of `tokens` tokens, which has its own x and y and does the work of
   * launching once for all replays. Enqueued. The weights live until both the layer and the capture are disposed of. A layer
   * with `capacity`, `expertChoice`, `hierarchy`, `hashRouting`, `routerNorm`, `separateRouterInput`, `perExpertScale`,
   * `identityExperts` or `latent`, or one that is captured with `expertIds`, must live until the last replay.
   * @param options.dtype dtype of x and y; default that of the experts' weights.
   * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, OUT_OF_MEMORY, DISPOSED; UNSUPPORTED_OPERATION for a layer with offload
   * and fewer slots than it, or the layers of its budget, have experts. While the capture lives, only layers for whose
   * experts there are slots left can join the budget.
   */
  capture<D extends FloatDType = FloatDType>(tokens: number, options: CaptureOptions<D> = {}): CapturedForward<D> {
    checkInteger("tokens", tokens, 0);
    const given = captureOptions(options, "options");
    const { weightDType } = this.#parts.description;
    if (given.expertIds) checkTakesExpertIds(this.#parts.description);
    if (given.logits) checkTakesLogits(this.#parts.description);
    const dtype = (given.dtype ?? weightDType) as D;
    checkGoesWithWeights("dtype", dtype, weightDType);
    return new CapturedForward(this.#parts, { ...given, tokens, dtype });
  }

  /**
   * Microseconds of each stage of the last forward (replays do not count), once it is done. Marks between stages cost a
   * GPU time, so `cuda` and `simt` time the forwards after the first call, which returns NaN. There, with up to 16 tokens,
   * one kernel does `gating` and `sort`, and the time is that of `sort`. What a layer composes of operators is not a
   * stage, such as the projections of `latent` and the router beside them.
   * @throws DISPOSED; rejects with the first error of the enqueued work since the last wait.
   */
  async stageTimes(): Promise<StageTimes> {
    return await this.#parts.stageTimes();
  }

  /** Frees the layer's weights, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    this.#parts.dispose();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const { numExperts, topK, hiddenSize, intermediateSize, weightDType, tokenFormat } = this.#parts.description;
    const state = this.#parts.onDevice.disposed ? " (disposed)" : "";
    const sizes = `hiddenSize ${hiddenSize}, intermediateSize ${intermediateSize}`;
    const tokens = tokenFormat === "none" ? "" : `, ${tokenFormat} tokens`;
    return `MoeLayer<${weightDType}> top ${topK} of ${numExperts} experts, ${sizes}${tokens} on ${this.#parts.device.name}${state}`;
  }
}
