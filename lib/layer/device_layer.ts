import type { CapturedHandle, LayerHandle, OffloadRule, WeightParts } from "../core/device/backend.js";
import type { Device } from "../core/device/device.js";
import { MoeError } from "../core/errors.js";
import { forwardStages, type StageList, scoredStages } from "../core/layer/stages.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import { resultDType } from "../operators/check.js";
import type { Routing } from "../operators/routing/gating.js";
import type { MoeLayerDescription } from "./description/config.js";
import type { InnerRows } from "./forward/inner_rows.js";
import { TokenConstants } from "./token_constants.js";
import { WeightRecord } from "./weights/weight_record.js";

/** A forward whose routing is given, as {@link LayerHandle.forward} describes it. */
interface RoutedForward {
  readonly x: TensorHandle;
  readonly y: TensorHandle | null;
  readonly routing: Routing;
  readonly maxChoices: number;
  readonly residual?: TensorHandle | undefined;
  /** Where to keep rows before the activation; default nowhere. */
  readonly rows?: InnerRows | undefined;
  /** Default all of them. */
  readonly stages?: StageList;
}

/**
 * A layer's memory and fused stages on a device, which cover both router and experts. {@link Router} and
 * {@link ExpertBank} are its two sides.
 */
export class DeviceLayer {
  readonly device: Device;
  readonly description: MoeLayerDescription;
  readonly record: WeightRecord;
  /** Whether experts come and go. */
  readonly offloaded: boolean;
  readonly #stored: boolean;
  #handle: LayerHandle | undefined;
  #constants: TokenConstants | undefined;

  /**
   * @param stored the parts of a layer of an equal description; by default the weights are to be set.
   * @param offload which experts are resident; by default all are.
   * @param record that of another layer of the device that is part of the same whole; default a new one.
   */
  constructor(
    device: Device,
    description: MoeLayerDescription,
    stored?: WeightParts,
    offload?: OffloadRule,
    record = new WeightRecord(stored),
  ) {
    this.device = device;
    this.description = description;
    this.record = record;
    this.offloaded = offload !== undefined;
    this.#stored = stored !== undefined;
    this.#handle = device.backend.layer(description, stored, offload);
  }

  get disposed(): boolean {
    return this.#handle === undefined || this.device.disposed;
  }

  /** @throws DISPOSED after free(), or if the device was disposed of. */
  get handle(): LayerHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "layer: used after dispose()");
    void this.device.backend;
    return this.#handle;
  }

  /** Constants for passes of so many tokens, kept until passes have another number; not to be disposed of. */
  constants(tokens: number): TokenConstants {
    if (this.#constants?.tokens !== tokens) {
      this.#constants?.[Symbol.dispose]();
      this.#constants = new TokenConstants(this.device, tokens, resultDType({ dtype: this.description.weightDType }));
    }
    return this.#constants;
  }

  /** @throws UNSUPPORTED_OPERATION if the weights were stored before, where they stay as they are. */
  checkSettable(parameter: string): void {
    if (!this.#stored) return;
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `${parameter}: expected a layer with weights of its own, got one with those of a cache file; load it without cache`,
    );
  }

  /** The width of the shared expert: as it was given or, if that is not known, filled up with zeros as it is stored. */
  get sharedWidth(): number {
    return this.record.sharedWidth ?? this.description.sharedExperts * this.description.intermediateSize;
  }

  /** A: how many experts it holds, the bank's and then the shared ones. */
  get expertCount(): number {
    return this.description.bank.count + this.description.sharedExperts;
  }

  /** Whether some expert that it holds has a bias of this role. */
  hasExpertBias(role: "gateBias" | "upBias" | "downBias"): boolean {
    const { bank, sharedExperts } = this.description;
    const { record } = this;
    return (bank.count > 0 && record.hasBias("experts", role)) || (sharedExperts > 0 && record.hasBias("shared", role));
  }

  /**
   * Enqueues y = layer(x) + residual, with the device's own routing.
   * @param routing where to write it; default nowhere.
   * @param logits the router's logits: `given`, or where to write them; default nowhere.
   */
  forward(
    x: TensorHandle,
    y: TensorHandle,
    residual: TensorHandle | undefined,
    routing?: Routing | undefined,
    logits?: { readonly tensor: Tensor; readonly given: boolean } | undefined,
  ): void {
    const [ids, weights] = [routing?.ids.handle ?? null, routing?.weights.handle ?? null];
    const stages = logits?.given ? scoredStages : routing && forwardStages;
    this.handle.forward(x, y, ids, weights, -1, stages, logits?.tensor.handle, residual);
  }

  /** Enqueues y = the outputs of the experts for x under a routing, + residual. */
  forwardRouted({ x, y, routing, maxChoices, residual, rows, stages }: RoutedForward): void {
    const [ids, weights] = [routing.ids.handle, routing.weights.handle];
    const kept = rows && { pre: rows.pre.handle, multiplied: rows.multiplied?.handle };
    this.handle.forward(x, y, ids, weights, maxChoices, stages, undefined, residual, kept);
  }

  /**
   * Enqueues the capture of a forward: under a routing or, without one, by the device's own.
   * @param logits the router's, if they are given; only without a routing.
   */
  capture(
    { x, y, routing, maxChoices, residual }: Omit<RoutedForward, "routing"> & { readonly routing: Routing | undefined },
    logits: Tensor | undefined,
  ): CapturedHandle {
    const [ids, weights] = [routing?.ids.handle ?? null, routing?.weights.handle ?? null];
    return this.handle.capture(x, y, ids, weights, maxChoices, logits && scoredStages, logits?.handle, residual);
  }

  free(): void {
    this.#handle?.free();
    this.#handle = undefined;
    this.#constants?.[Symbol.dispose]();
    this.#constants = undefined;
  }
}
