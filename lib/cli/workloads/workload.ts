import type { LayerDetails, RefusedLayer } from "../../checkpoint/inspect/read_layers.js";
import type { LoadedTokenFormat } from "../../checkpoint/schemes/checkpoint_tokens.js";
import type { Device } from "../../core/device/device.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { MoeLayer } from "../../moe_layer.js";

/** Tokens to run a layer on. */
export interface Tokens {
  /** Where they come from, for display. */
  readonly origin: string;
  readonly x: Float32Array | Float64Array;
  /** What the router of a layer with `separateRouterInput` reads. */
  readonly routerInput?: Float32Array | Float64Array | undefined;
  /** The shape of both, [T, H], or [B, S, H] for sequences. */
  readonly shape: Shape;
  /** The ids of the tokens in a vocabulary of some size, for a layer with `hashRouting`; undefined if there are none. */
  tokenIds?(vocabularySize: number): Int32Array | undefined;
}

/** The routing [T, k] that a layer must compute; in 16-bit runs it is given to the layer. */
export interface ExpectedRouting {
  readonly ids: Int32Array;
  readonly weights: Float32Array | Float64Array;
}

/** What a layer must compute for its tokens. */
export interface Expectation {
  readonly routing?: ExpectedRouting;
  /** [T, H] */
  readonly output: Float32Array | Float64Array;
  /** [T, E], noise for results that a layer with noisy gating computes in training. */
  readonly noise?: Float32Array;
}

/** How a layer is built; by default as it is. */
export interface BuildOptions {
  readonly dtype?: WeightFormatName | undefined;
  readonly tokenFormat?: LoadedTokenFormat | undefined;
}

/** A layer and tokens to run it on. */
export interface Workload {
  /** The model, file or shape, for display. */
  readonly title: string;
  /** The layer by itself: "layer 3", or "layer" if there is no other. */
  readonly layer: string;
  /** Its number, in a model. */
  readonly number?: number;
  readonly expectation?: Expectation;
  /** The same layer of another model, to compare with; by default the layer as it is. */
  readonly original?: { readonly model: string; load(device: Device): Promise<MoeLayer> };
  /** What is known of the layer besides its description. */
  readonly details?: LayerDetails;
  /** Builds the layer on a device; `onProgress` is called with the share done, 0 .. 1. */
  load(device: Device, options: BuildOptions, onProgress: (share: number) => void): Promise<MoeLayer>;
  tokens(hiddenSize: number): Tokens;
}

/** The layers to run, and what they are together. Files that they are loaded from stay open until it is disposed of. */
export interface Workloads extends AsyncDisposable {
  readonly title: string;
  readonly workloads: readonly Workload[];
  /** Layers of a whole model that are left out, as their formula is refused. */
  readonly refused: readonly RefusedLayer[];
  /** Whether those that turn out later to be refused are left out too, as a whole model was asked for. */
  readonly leavesOutRefused: boolean;
}
