import type { DType } from "./dtype.js";
import type { Shape } from "./shape.js";

/** The kinds of devices; see README for what each is. */
export type DeviceKind = "reference" | "cpu" | "simt" | "cuda";
export const deviceKinds: readonly DeviceKind[] = ["reference", "cpu", "simt", "cuda"];

/**
 * What an expert's first matrix product is followed by. With a gate (the last three) the weight's rows are the I gate
 * rows, then the I up rows, and the result has I columns: act(gate) * up.
 */
export type Activation = "none" | "relu" | "gelu" | "gelu_tanh" | "silu" | "swiglu" | "geglu" | "geglu_tanh";
export const activations: readonly Activation[] = [
  "none",
  "relu",
  "gelu",
  "gelu_tanh",
  "silu",
  "swiglu",
  "geglu",
  "geglu_tanh",
];

/** Whether an activation multiplies by a gate, so that its weight has 2I rows. */
export function isGated(activation: Activation): boolean {
  return activation === "swiglu" || activation === "geglu" || activation === "geglu_tanh";
}

/**
 * `softmax`: softmax over all experts, then choose the k largest. `softmax_selected`: choose the k largest logits, then
 * softmax over the chosen.
 */
export type Scoring = "softmax" | "softmax_selected";
export const scorings: readonly Scoring[] = ["softmax", "softmax_selected"];

/** How router logits become expert ids and weights. */
export interface Gating {
  /** k, experts per token, 1 .. E. */
  readonly topK: number;
  readonly scoring: Scoring;
  /** Divide the k chosen weights by their sum. */
  readonly normalize: boolean;
  /** Factor on the weights after that. */
  readonly scale: number;
}

/** The sizes and formula of one MoE layer. */
export interface LayerDescription extends Gating {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly activation: Activation;
  /** Storage dtype of router and experts. */
  readonly weightDType: DType;
}

/** Counters of conditions that are defined but worth knowing. */
export interface Warnings {
  /** Rows of router logits without any finite entry; their weights are 0. */
  readonly nonFiniteLogitRows: number;
}

/** Microseconds that each stage of one fused forward took on the device. */
export interface StageTimes {
  readonly router: number;
  readonly gating: number;
  readonly sort: number;
  readonly gateUp: number;
  readonly down: number;
  readonly combine: number;
}

/**
 * A backend's side of one tensor: memory, dtype and shape, row-major and contiguous. Views share the memory, which is
 * given back when the last of them is freed and no enqueued work needs it.
 */
export interface TensorHandle {
  /** Another handle on the same memory. */
  view(shape: Shape, elementOffset: number): TensorHandle;
  /**
   * Copies `source` in before it returns. `source` holds the tensor's raw bits, or, where `converts`, float32 values
   * for a 16-bit tensor. Only for a tensor that no enqueued work uses.
   */
  write(source: ArrayBufferView, converts: boolean): void;
  /** As write, but in order with the enqueued work: after the work enqueued before, before the work enqueued after. */
  overwrite(source: ArrayBufferView, converts: boolean): void;
  /** Fills with zeros. Only for a tensor that no enqueued work uses. */
  clear(): void;
  /** The bytes, after all work enqueued before; as float32 values where `converts`. */
  read(converts: boolean): Promise<ArrayBuffer>;
  readSync(converts: boolean): ArrayBuffer;
  /**
   * The memory itself, until free(), for reading files straight into it; undefined where the host cannot address it.
   */
  map(): Uint8Array | undefined;
  /** Whether the two overlap in memory. */
  overlaps(other: TensorHandle): boolean;
  free(): void;
}

/** Expert weights [E, N, K] in the layout that a device's grouped GEMM reads fastest. */
export interface PackedHandle {
  /**
   * Enqueues the repacking of expert `expert`. `weight` is [N, K], or where the activation is gated [I, K] with `up`
   * [I, K] the other half.
   */
  setExpert(expert: number, weight: TensorHandle, up: TensorHandle | null): void;
  readonly byteLength: number;
  free(): void;
}

/** One layer's weights on a device, and the fused stages over them. */
export interface LayerHandle {
  setRouter(weight: TensorHandle, bias: TensorHandle | null): void;
  /** Enqueues the repacking of one expert's weights; a null bias is no bias, for all experts or none. */
  setExpert(expert: number, weights: ExpertHandles): void;
  /** ids [T, k] i32 and weights [T, k] f32 of x [T, H]. */
  route(x: TensorHandle, ids: TensorHandle, weights: TensorHandle): void;
  /** y [T, H] of x [T, H]; with routing given, ids and weights are read, else computed. */
  forward(x: TensorHandle, y: TensorHandle, ids: TensorHandle | null, weights: TensorHandle | null): void;
  /** Enqueues the capture of a forward from x to y [T, H], which it keeps alive, as it does the weights. */
  capture(x: TensorHandle, y: TensorHandle): CapturedHandle;
  /** The stages of the last forward, not of a replay; waits for it. */
  stageTimes(): Promise<StageTimes>;
  /** Bytes of all weights as stored. */
  readonly byteLength: number;
  /** The weights as stored, in the layout `weightLayout`, once the work that sets them is done; see {@link WeightParts}. */
  parts(): WeightParts;
  free(): void;
}

/** A forward over fixed tensors, made ready once to be run many times. */
export interface CapturedHandle {
  /** Enqueues the forward. */
  replay(): void;
  free(): void;
}

/**
 * A layer's stored weights by name: tensors of bytes over the memory that the layer computes with, which they keep
 * alive. Only to be read.
 */
export type WeightParts = Readonly<Record<string, TensorHandle>>;

/** One expert's weights: gate (null where not gated) and up [I, H], down [H, I], biases [I], [I], [H] or null. */
export interface ExpertHandles {
  readonly gate: TensorHandle | null;
  readonly up: TensorHandle;
  readonly down: TensorHandle;
  readonly gateBias: TensorHandle | null;
  readonly upBias: TensorHandle | null;
  readonly downBias: TensorHandle | null;
}

/**
 * The operator table: what every device implements. Arguments are checked before (lib/operators), outputs are
 * allocated before; every operator is enqueued on the device's in-order stream.
 */
export interface Backend {
  readonly kind: DeviceKind;
  /** For people: what this device is. */
  readonly description: string;

  /** New memory, not initialised (NaN patterns where the device was opened with `poison`). */
  empty(dtype: DType, shape: Shape): TensorHandle;
  /** Resolves when all work enqueued so far is done; rejects with the first error since the last wait. */
  synchronize(): Promise<void>;
  synchronizeSync(): void;
  warnings(): Warnings;
  /** Ends the stream after the work in flight; idempotent. */
  close(): void;

  /** logits [T, E] f32 = x [T, H] weight [E, H]^T + bias [E]. */
  routerProjection(x: TensorHandle, weight: TensorHandle, bias: TensorHandle | null, logits: TensorHandle): void;
  /** ids [T, k] i32, weights [T, k] f32 from logits [T, E]. */
  gating(logits: TensorHandle, ids: TensorHandle, weights: TensorHandle, gating: Gating): void;
  /**
   * From ids [T, k]: offsets [E+1], tokensPerExpert [E], tokenOfRow [T*k] (-1 after the last row), rowOfSlot [T, k]
   * (-1 where the id is -1); all i32. Rows of one expert are in order of (token, slot).
   */
  sort(
    ids: TensorHandle,
    offsets: TensorHandle,
    tokensPerExpert: TensorHandle,
    tokenOfRow: TensorHandle,
    rowOfSlot: TensorHandle,
  ): void;
  /** rows [R, H]: row r is x[tokenOfRow[r]], or zeros where that is -1. */
  permute(x: TensorHandle, tokenOfRow: TensorHandle, rows: TensorHandle): void;
  /** slots [T, k, H]: slot (t, j) is rows[rowOfSlot[t, j]], or zeros where that is -1. */
  unpermute(rows: TensorHandle, rowOfSlot: TensorHandle, slots: TensorHandle): void;
  /**
   * y [R, N]: for rows offsets[e] .. offsets[e+1] of expert e, activation(x_r weight[e]^T + bias[e]), x_r being
   * x[tokenOfRow[r]] where given, else x[r]. Rows after offsets[E] are zeros.
   */
  groupedGemm(
    x: TensorHandle,
    weight: PackedHandle,
    bias: TensorHandle | null,
    offsets: TensorHandle,
    tokenOfRow: TensorHandle | null,
    y: TensorHandle,
    activation: Activation,
  ): void;
  /** y [T, H] = sum over j of weights[t, j] * rows[rowOfSlot[t, j]], in order of j, float32; -1 adds nothing. */
  combine(rows: TensorHandle, rowOfSlot: TensorHandle, weights: TensorHandle, y: TensorHandle): void;

  /** Memory for packed expert weights [numExperts, N, K], N = 2I rows where the activation is gated. */
  packedExperts(numExperts: number, rows: number, columns: number, dtype: DType, activation: Activation): PackedHandle;
  /** A layer whose weights are to be set or, with `stored`, are the parts of a layer of an equal description. */
  layer(description: LayerDescription, stored?: WeightParts): LayerHandle;

  /**
   * Names the layout of layers' parts: parts under an equal name are interchangeable, between processes too. Empty where
   * layers cannot be made over stored parts.
   */
  readonly weightLayout: string;
  /** The first bytes of an open file as a tensor for `layer`: mapped, not read. The file must not change after. */
  mapFile(descriptor: number, byteLength: number): TensorHandle;
}
