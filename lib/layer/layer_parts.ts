import type { OffloadRule, WeightParts } from "../core/backend.js";
import { withoutSignal } from "../core/cancellation.js";
import type { Device } from "../core/device.js";
import { deepFreeze } from "../core/freeze.js";
import { BackwardMatrices } from "./backward/matrices.js";
import type { MoeLayerDescription } from "./description/config.js";
import { DeviceLayer } from "./device_layer.js";
import { ExpertBank } from "./expert_bank.js";
import { ExpertOffload } from "./offload.js";
import { Router } from "./router/router.js";
import type { Quantizing } from "./weights/quantizing.js";

/** Where a layer's weights come from and where they go. */
interface LayerOrigin {
  readonly stored?: WeightParts;
  readonly quantizing?: Quantizing | undefined;
  readonly offload?: OffloadRule | undefined;
}

/** What a layer consists of: a description, a router and a bank of experts, over one {@link DeviceLayer}. */
export class LayerParts implements Disposable {
  readonly device: Device;
  readonly description: MoeLayerDescription;
  readonly onDevice: DeviceLayer;
  readonly router: Router;
  readonly bank: ExpertBank;
  /** Undefined if all experts are resident. */
  readonly offload: ExpertOffload | undefined;
  #backwardMatrices: BackwardMatrices | undefined;

  /**
   * @param from.stored the packed weights of a layer of an equal description; by default the weights are to be set.
   * @param from.quantizing which matrices are quantised when they are set; default none.
   * @param from.offload which experts are resident; by default all are.
   */
  constructor(device: Device, description: MoeLayerDescription, { stored, quantizing, offload }: LayerOrigin = {}) {
    this.device = device;
    this.description = deepFreeze(description);
    this.onDevice = new DeviceLayer(device, description, stored, offload);
    this.router = new Router(this.onDevice);
    this.bank = new ExpertBank(this.onDevice, quantizing);
    this.offload = offload && new ExpertOffload(this.onDevice, offload);
  }

  /** Bytes of the weights on the device; complete once the work that sets them is done. */
  get byteLength(): number {
    const backward = this.#backwardMatrices?.byteLength ?? 0;
    return this.onDevice.handle.byteLength + this.router.weights.byteLength + backward;
  }

  /** The experts as a backward pass needs them; made when they are first asked for. */
  backwardMatrices(): BackwardMatrices {
    // What was made of matrices that could not be packed has failed too, and said why.
    if (this.#backwardMatrices?.failed) {
      this.#backwardMatrices[Symbol.dispose]();
      this.#backwardMatrices = undefined;
    }
    this.#backwardMatrices ??= withoutSignal(this.device, () => new BackwardMatrices(this.onDevice));
    return this.#backwardMatrices;
  }

  /** Frees the weights, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    this.onDevice.free();
    this.router.free();
    this.bank.free();
    this.#backwardMatrices?.[Symbol.dispose]();
    this.#backwardMatrices = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
