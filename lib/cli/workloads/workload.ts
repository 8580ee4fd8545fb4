import type { Device } from "../../device.js";
import type { FloatDType } from "../../dtype.js";
import type { MoeLayer } from "../../layer/layer.js";

/** Tokens to run a layer on: x [T, H]. */
export interface Tokens {
  /** Where they come from, for people. */
  readonly origin: string;
  readonly x: Float32Array | Float64Array;
  readonly count: number;
}

/** What a layer must compute for its tokens. */
export interface Expectation {
  /** [T, k], where known; a 16-bit run then takes it as its routing. */
  readonly routing?: { readonly ids: Int32Array; readonly weights: Float32Array | Float64Array };
  /** [T, H] */
  readonly output: Float32Array | Float64Array;
}

/** A layer and tokens to run it on. */
export interface Workload {
  /** For people: the model, file or shape. */
  readonly title: string;
  readonly expectation?: Expectation;
  /**
   * Builds the layer on a device, in `dtype` or what is natural for it; `onProgress` is told the share that is done,
   * 0 .. 1.
   */
  load(device: Device, dtype: FloatDType | undefined, onProgress: (share: number) => void): Promise<MoeLayer>;
  tokens(hiddenSize: number): Tokens;
}
