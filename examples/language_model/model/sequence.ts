import type { Device } from "moe-kernels";
import type { ModelConfig } from "../config/config.js";
import { KeyValueCache } from "./cache.js";

/** A sequence of tokens: what each layer keeps of it. */
export class Sequence implements Disposable {
  readonly caches: readonly KeyValueCache[];

  /** @param capacity how many tokens there is room for at first. */
  constructor(device: Device, config: ModelConfig, capacity?: number) {
    this.caches = config.windows.map(() => new KeyValueCache(device, config, capacity));
  }

  [Symbol.dispose](): void {
    for (const cache of this.caches) cache[Symbol.dispose]();
  }
}

/** Tokens that a forward adds to a sequence. */
export interface Part {
  readonly sequence: Sequence;
  /** One at least. */
  readonly ids: readonly number[];
}
