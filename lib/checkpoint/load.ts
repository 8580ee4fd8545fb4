import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import type { MoeLayer } from "../layer/layer.js";

export interface LoadOptions {
  /** Number of the decoder layer whose MoE block is loaded. */
  layer: number;
  device: Device;
  /** Storage dtype of the weights on the device; default the checkpoint's. */
  dtype?: FloatDType;
  /** Called as bytes of weights are read. */
  onProgress?: (progress: { bytesRead: number; bytesTotal: number }) => void;
  /** Stops reading between tensors; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

export declare function loadLayer(directory: string, options: LoadOptions): Promise<MoeLayer>;
