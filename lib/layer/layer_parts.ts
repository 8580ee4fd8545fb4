import type { OffloadRule, WeightParts } from "../core/device/backend.js";
import { withoutSignal } from "../core/device/cancellation.js";
import type { Device } from "../core/device/device.js";
import { plainWeight } from "../core/formats/weight_format.js";
import { deepFreeze } from "../core/input/freeze.js";
import type { StageTimes } from "../core/layer/stages.js";
import type { FloatDType } from "../core/tensors/dtype.js";
import { BackwardMatrices } from "./backward/matrices.js";
import type { MoeLayerDescription } from "./description/config.js";
import { layerOfTokens, routedLayer } from "./description/latent_layers.js";
import { DeviceLayer } from "./device_layer.js";
import { ExpertBank } from "./expert_bank.js";
import { ExpertOffload } from "./offload.js";
import { Router } from "./router/router.js";
import type { ExpertMatrix } from "./weights/expert_weights.js";
import { isLatentRole, type TrainedRole } from "./weights/extra_weights.js";
import { LatentProjections } from "./weights/latent_projections.js";
import type { Quantizing } from "./weights/quantizing.js";
import type { Weight } from "./weights/weight_layout.js";
import { WeightRecord } from "./weights/weight_record.js";

/** Where a layer's weights come from and where they go. */
interface LayerOrigin {
  readonly stored?: WeightParts;
  readonly quantizing?: Quantizing | undefined;
  readonly offload?: OffloadRule | undefined;
}

/**
 * What a layer consists of: a description, a router and a bank of experts, over one {@link DeviceLayer}; or over two, if the
 * routed experts work on a projection of the tokens.
 */
export class LayerParts implements Disposable {
  readonly device: Device;
  readonly description: MoeLayerDescription;
  /** What reads the tokens: the router, the shared expert and, unless the layer has `latent`, the routed experts. */
  readonly onDevice: DeviceLayer;
  /** What holds the routed experts: the same, or a layer of another width. */
  readonly routed: DeviceLayer;
  /** What leads to that width and back; undefined without `latent`. */
  readonly projections: LatentProjections | undefined;
  readonly router: Router;
  readonly bank: ExpertBank;
  /** Undefined if all experts are resident. */
  readonly offload: ExpertOffload | undefined;
  /** How often any {@link LayerParameters} have packed the weights. */
  packedByParameters = 0;
  readonly #backwardMatrices = new Map<DeviceLayer, BackwardMatrices>();

  /**
   * @param from.stored the packed weights of a layer of an equal description, of one with `latent` those of its routed
   * experts; by default the weights are to be set.
   * @param from.quantizing which matrices are quantised when they are set; default none.
   * @param from.offload which experts are resident; by default all are.
   */
  constructor(device: Device, description: MoeLayerDescription, { stored, quantizing, offload }: LayerOrigin = {}) {
    this.device = device;
    this.description = deepFreeze(description);
    try {
      if (description.latent === undefined) {
        this.onDevice = new DeviceLayer(device, description, stored, offload);
        this.routed = this.onDevice;
      } else {
        const record = new WeightRecord(stored, ["experts"]);
        this.routed = new DeviceLayer(device, routedLayer(description), stored, offload, record);
        this.onDevice = new DeviceLayer(device, layerOfTokens(description), undefined, undefined, record);
        this.projections = new LatentProjections(this.onDevice, quantizing);
      }
      this.router = new Router(this.onDevice, description);
      this.bank = new ExpertBank(this, quantizing);
      this.offload = offload && new ExpertOffload(this.routed, offload);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Sets a weight that the device's layer does not hold. */
  setExtra(role: TrainedRole, weight: ExpertMatrix): void {
    if (isLatentRole(role)) this.projections?.set(role, weight);
    else this.router.weights.setExtra(role, weight as Weight);
  }

  /** The layers of the device. */
  get #layers(): readonly DeviceLayer[] {
    return this.routed === this.onDevice ? [this.onDevice] : [this.onDevice, this.routed];
  }

  /** Resolves when all work enqueued so far is done; rejects if work that sets the weights has failed. */
  async weightsSet(): Promise<void> {
    await Promise.all(this.#layers.map(async ({ handle }) => await handle.weightsSet()));
  }

  /** Sets the unused router of a layer of routed experts alone to zeros, so that its weights can be copied. */
  async clearUnusedRouter(): Promise<void> {
    const { routed, device } = this;
    if (routed === this.onDevice) return;
    const { numExperts, hiddenSize, formats } = routed.description;
    const dtype = formats.router as FloatDType;
    using zeros = device.zeros([numExperts, hiddenSize], dtype);
    const size = { rows: numExperts, columns: hiddenSize, rowStride: hiddenSize, columnStride: 1 };
    routed.handle.setRouter(plainWeight(dtype, { handle: zeros.handle, ...size }), null);
    await routed.handle.weightsSet();
  }

  /** The times of the last forward, of all layers of the device. */
  async stageTimes(): Promise<StageTimes> {
    const ran = this.#layers.filter(({ expertCount }) => expertCount > 0);
    const [first, ...others] = await Promise.all(ran.map(async ({ handle }) => await handle.stageTimes()));
    const sums: Record<string, number> = { ...first };
    for (const times of others)
      for (const [stage, time] of Object.entries(times)) sums[stage] = (sums[stage] ?? 0) + time;
    return sums as StageTimes;
  }

  /** Bytes of the weights on the device; complete once the work that sets them is done. */
  get byteLength(): number {
    const backward = [...this.#backwardMatrices.values()].reduce((total, { byteLength }) => total + byteLength, 0);
    const layers = this.#layers.reduce((total, { handle }) => total + handle.byteLength, 0);
    return layers + this.router.weights.byteLength + (this.projections?.byteLength ?? 0) + backward;
  }

  /** The layers of the device that hold experts, that of the routed ones first. */
  get expertLayers(): readonly DeviceLayer[] {
    const { routed, onDevice } = this;
    return routed === onDevice || onDevice.description.sharedExperts === 0 ? [routed] : [routed, onDevice];
  }

  /** The experts of one of these as a backward pass needs them; made when they are first asked for. */
  backwardMatrices(layer: DeviceLayer): BackwardMatrices {
    let matrices = this.#backwardMatrices.get(layer);
    // What was made of matrices that could not be packed has failed too, and said why.
    if (matrices?.failed) {
      matrices[Symbol.dispose]();
      this.#backwardMatrices.delete(layer);
      matrices = undefined;
    }
    matrices ??= withoutSignal(this.device, () => new BackwardMatrices(layer));
    this.#backwardMatrices.set(layer, matrices);
    return matrices;
  }

  /** Frees the weights, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    // Undefined are those that the constructor failed before.
    for (const part of [this.routed, this.onDevice, this.router, this.bank]) part?.free();
    this.projections?.free();
    for (const matrices of this.#backwardMatrices.values()) matrices[Symbol.dispose]();
    this.#backwardMatrices.clear();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
