import type { WeightParts } from "../core/backend.js";
import type { Device } from "../core/device.js";
import { deepFreeze } from "../core/freeze.js";
import type { MoeLayerDescription } from "./description/config.js";
import { DeviceLayer } from "./device_layer.js";
import { ExpertBank } from "./expert_bank.js";
import { Router } from "./router/router.js";
import type { Quantizing } from "./weights/quantizing.js";

/** What a layer consists of: a description, a router and a bank of experts, over one {@link DeviceLayer}. */
export class LayerParts implements Disposable {
  readonly device: Device;
  readonly description: MoeLayerDescription;
  readonly onDevice: DeviceLayer;
  readonly router: Router;
  readonly bank: ExpertBank;

  /**
   * @param from.stored the packed weights of a layer of an equal description; by default the weights are to be set.
   * @param from.quantizing which matrices are quantised when they are set; default none.
   */
  constructor(
    device: Device,
    description: MoeLayerDescription,
    { stored, quantizing }: { readonly stored?: WeightParts; readonly quantizing?: Quantizing | undefined } = {},
  ) {
    this.device = device;
    this.description = deepFreeze(description);
    this.onDevice = new DeviceLayer(device, description, stored);
    this.router = new Router(this.onDevice);
    this.bank = new ExpertBank(this.onDevice, quantizing);
  }

  /** Bytes of the weights on the device; complete once the work that sets them is done. */
  get byteLength(): number {
    return this.onDevice.handle.byteLength + this.router.weights.byteLength;
  }

  /** Frees the weights, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    this.onDevice.free();
    this.router.free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
