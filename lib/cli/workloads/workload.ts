import type { Device } from "../../core/device.js";
import type { FloatDType } from "../../core/dtype.js";
import type { Shape } from "../../core/shape.js";
import type { MoeLayer } from "../../moe_layer.js";

/** Tokens to run a layer on. */
export interface Tokens {
  /** Where they come from, for people. */
  readonly origin: string;
  readonly x: Float32Array | Float64Array;
  /** [T, H], or [B, S, H] of sequences. */
  readonly shape: Shape;
}

/** The routing [T, k] that a layer must compute; in 16-bit runs the layer takes it as it is. */
export interface ExpectedRouting {
  readonly ids: Int32Array;
  readonly weights: Float32Array | Float64Array;
}

/** What a layer must compute for its tokens. */
export interface Expectation {
  readonly routing?: ExpectedRouting;
  /** [T, H] */
  readonly output: Float32Array | Float64Array;
  /** [T, E], for what a layer with noisy gating computes in training. */
  readonly noise?: Float32Array;
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
