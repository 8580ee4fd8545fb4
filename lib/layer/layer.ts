import type { LayerDescription, LayerHandle, StageTimes, WeightParts } from "../backend.js";
import { type LoadOptions, loadLayer } from "../checkpoint/load.js";
import type { CacheStatus } from "../checkpoint/weight_cache.js";
import { Device } from "../device.js";
import { checkFloatDType, type FloatDType } from "../dtype.js";
import { checkInteger, checkOptions, invalidArgument, MoeError } from "../errors.js";
import { checkTensor, output } from "../operators/check.js";
import type { Routing } from "../operators/gating.js";
import type { Tensor } from "../tensor.js";
import { CapturedForward, type CaptureOptions } from "./captured_forward.js";
import { describeLayer, type MoeLayerConfig } from "./config.js";
import type { ExpertWeights } from "./expert_weights.js";
import { setSelectionBias, setWeights } from "./set_weights.js";
import { checkWeight, storedWeight, type Weight } from "./weight_layout.js";

/**
 * The weights of a layer. Each is a tensor of the shape that stands here or, where it is stored in another way (inputs
 * first, gate and up in one tensor), `{ tensor, orient, part, stacked }`; see {@link WeightLayout}.
 */
export interface LayerWeights<W = Weight, Experts = ExpertWeights<W>> {
  /** [E, H] */
  router: W;
  /** [E] */
  routerBias?: W;
  /** [E], added to what experts are chosen by, never to the weights (DeepSeek-V3's e_score_correction_bias). */
  selectionBias?: W;
  /** Every expert's weights. */
  experts: Experts;
  /** The shared expert's weights, whose width is `sharedExpert.intermediateSize`. */
  shared?: ExpertWeights<W>;
  /** Its gate: [1, H] for a sigmoid, [2, H] for a softmax. */
  sharedGate?: W;
  /** [1] or [2] */
  sharedGateBias?: W;
}

/** `experts`: a list of E, or the same tensors stacked, by default with the expert first ([E, I, H] and so on). */
export interface MoeLayerOptions
  extends MoeLayerConfig,
    LayerWeights<Weight, readonly ExpertWeights[] | ExpertWeights> {
  device: Device;
  /** Storage dtype of the weights on the device; default the dtype of the router's weight. */
  dtype?: FloatDType;
}

/**
 * One mixture-of-experts layer on a device: y = Σⱼ wⱼ · downᵢⱼ(act(gateᵢⱼ x) * (upᵢⱼ x)) over the k chosen experts of
 * each token. The weights are repacked into the device's fastest layout once, when the layer is made.
 */
export class MoeLayer implements Disposable {
  readonly device: Device;
  readonly description: LayerDescription;
  #handle: LayerHandle | undefined;
  #cacheStatus: CacheStatus | undefined;

  /** @internal Use {@link MoeLayer.create} or {@link MoeLayer.load}. */
  constructor(device: Device, description: LayerDescription, stored?: WeightParts) {
    this.device = device;
    this.description = description;
    this.#handle = device.backend.layer(description, stored);
  }

  /**
   * A layer from tensors. They are copied (enqueued on the device) and may be disposed right after.
   * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, OUT_OF_MEMORY.
   */
  static create(options: MoeLayerOptions): MoeLayer {
    checkOptions(options, "{ device, hiddenSize, ..., router, experts }");
    const { device, router, experts } = options;
    if (!(device instanceof Device)) throw invalidArgument("device", "a Device from openDevice()", device);
    if (typeof experts !== "object" || experts === null) {
      throw invalidArgument("experts", "a list of expert weights or stacked tensors", experts);
    }
    const { hiddenSize, numExperts } = options;
    checkWeight("router", router, [numExperts, hiddenSize], device);
    const dtype = options.dtype ?? storedWeight(router).tensor.dtype;
    checkFloatDType("dtype", dtype);
    const layer = new MoeLayer(device, describeLayer(options, dtype));
    try {
      setWeights(layer, options);
      return layer;
    } catch (error) {
      layer.dispose();
      throw error;
    }
  }

  /**
   * A layer of a Hugging Face model directory (config.json and safetensors).
   * @throws BAD_CHECKPOINT naming what is missing or wrong, and the errors of {@link MoeLayer.create}.
   */
  static load(directory: string, options: LoadOptions): Promise<MoeLayer> {
    return loadLayer(directory, options);
  }

  /** @internal */
  get handle(): LayerHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "layer: used after dispose()");
    void this.device.backend;
    return this.#handle;
  }

  /** Bytes of the layer's weights on the device. */
  get byteLength(): number {
    return this.handle.byteLength;
  }

  /** What became of the cache of packed weights; undefined where {@link MoeLayer.load} was not asked for one. */
  get cacheStatus(): CacheStatus | undefined {
    return this.#cacheStatus;
  }

  /** @internal */
  set cacheStatus(status: CacheStatus) {
    this.#cacheStatus = status;
  }

  /**
   * Replaces the bias [E] of the selection, in order with the enqueued work: for training with loss-free balancing.
   * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; INVALID_ARGUMENT where the scoring has no place
   * for a bias; UNSUPPORTED_OPERATION where the weights are mapped from a cache file.
   */
  setSelectionBias(bias: Tensor<FloatDType>): void {
    setSelectionBias(this, bias);
  }

  /**
   * The layer's output for tokens x [T, H]: [T, H] of x's dtype.
   * @param options.routing ids and weights to use instead of the layer's own router.
   * @param options.out where to write; default a new tensor.
   * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`).
   */
  forward<D extends FloatDType>(
    x: Tensor<D>,
    options: { routing?: Routing; out?: Tensor<NoInfer<D>> } = {},
  ): Tensor<D> {
    const { device, handle } = this;
    const tokens = this.#checkTokens(x);
    const { routing } = options;
    if (routing !== undefined) {
      checkTensor("routing.ids", routing.ids, ["i32"], [tokens, this.description.topK], device);
      const allowed = x.dtype === "f64" ? (["f32", "f64"] as const) : (["f32"] as const);
      checkTensor("routing.weights", routing.weights, allowed, [tokens, this.description.topK], device);
    }
    const y = output("out", options.out, device, x.shape, x.dtype, [x, routing?.ids, routing?.weights]);
    handle.forward(x.handle, y.handle, routing?.ids.handle ?? null, routing?.weights.handle ?? null);
    return y;
  }

  /** The layer's router alone: ids [T, k] i32 and weights [T, k] f32 for tokens x [T, H]. */
  route(x: Tensor<FloatDType>): Routing {
    const { device, handle } = this;
    const shape = [this.#checkTokens(x), this.description.topK];
    const ids = device.empty(shape, "i32");
    const weights = device.empty(shape, x.dtype === "f64" ? ("f64" as "f32") : "f32");
    handle.route(x.handle, ids.handle, weights.handle);
    return { ids, weights };
  }

  /** The router's output before any scoring: [T, E] f32 for tokens x [T, H]. */
  routerLogits(x: Tensor<FloatDType>): Tensor<"f32"> {
    const { device, handle } = this;
    const shape = [this.#checkTokens(x), this.description.numExperts];
    const logits = device.empty(shape, x.dtype === "f64" ? ("f64" as "f32") : "f32");
    handle.logits(x.handle, logits.handle);
    return logits;
  }

  /**
   * A {@link CapturedForward} of `tokens` tokens: the layer over tensors of its own, with the work of launching done once
   * for all replays. Enqueued, and independent of the layer from then on: the weights live until both are disposed.
   * @param options.dtype of x and y; default the dtype of the weights.
   * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, OUT_OF_MEMORY, DISPOSED.
   */
  capture<D extends FloatDType = FloatDType>(tokens: number, options: CaptureOptions<D> = {}): CapturedForward<D> {
    checkInteger("tokens", tokens, 0);
    checkOptions(options, "{ dtype }");
    const { device, handle } = this;
    const { hiddenSize, weightDType } = this.description;
    const dtype = (options.dtype ?? weightDType) as D;
    checkFloatDType("dtype", dtype);
    this.#checkGoesWithWeights("dtype", dtype);
    const x = device.empty([tokens, hiddenSize], dtype);
    const y = device.empty([tokens, hiddenSize], dtype);
    return new CapturedForward(x, y, handle.capture(x.handle, y.handle));
  }

  /** Microseconds of each stage of the last forward (not of a replay), once it is done. */
  stageTimes(): Promise<StageTimes> {
    return this.handle.stageTimes();
  }

  #checkTokens(x: Tensor<FloatDType>): number {
    const { hiddenSize } = this.description;
    checkTensor("x", x, "float", ["T", hiddenSize], this.device);
    this.#checkGoesWithWeights("x", x.dtype);
    return x.shape[0] as number;
  }

  #checkGoesWithWeights(parameter: string, dtype: FloatDType): void {
    const { weightDType } = this.description;
    if ((dtype === "f64") !== (weightDType === "f64")) {
      throw new MoeError(
        "UNSUPPORTED_DTYPE",
        `${parameter}: expected a dtype that goes with weights of ${weightDType}, got ${dtype}`,
      );
    }
  }

  /** Frees the layer's weights, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
