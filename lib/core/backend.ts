import type { DType } from "./dtype.js";
import type { Operators, OperatorTable } from "./operators/table.js";
import type { Gating } from "./routing_rule.js";
import type { Shape } from "./shape.js";
import type { StageList, StageTimes } from "./stages.js";
import type { StridedMatrix, TensorHandle } from "./tensor_handle.js";
import type { WeightFormatName, WeightMatrix } from "./weight_format.js";

export const deviceKinds = ["reference", "cpu", "simt", "cuda"] as const;
/** The kinds of devices; see README for what each is. */
export type DeviceKind = (typeof deviceKinds)[number];

export const activations = [
  "none",
  "relu",
  "relu2",
  "gelu",
  "gelu_tanh",
  "silu",
  "swiglu",
  "geglu",
  "geglu_tanh",
  "swiglu_clamped",
] as const;
/**
 * What an expert's first matrix product is followed by. `relu2` is the square of ReLU. With a gate (the last four) there
 * are I gate rows, then I up rows, and the result has I columns: act(gate) * up.
 */
export type Activation = (typeof activations)[number];

/** Whether an activation multiplies by a gate, so that its weight has 2I rows. */
export function isGated(activation: Activation): boolean {
  return activations.indexOf(activation) >= activations.indexOf("swiglu");
}

/**
 * The numbers of `swiglu_clamped`: g σ(alpha g) (u + offset) with g = min(gate, limit), u = clamp(up, -limit, limit). Other
 * activations ignore them.
 */
export interface Clamp {
  readonly alpha: number;
  readonly limit: number;
  readonly offset: number;
}

/** gpt-oss' own. */
export const defaultClamp: Clamp = { alpha: 1.702, limit: 7, offset: 1 };

export const outputActivations = ["none", "softmax"] as const;
/** What is done to an expert's output row, bias included, before it is weighted. */
export type OutputActivation = (typeof outputActivations)[number];

export const weightPlaces = ["output", "input"] as const;
/** Whether the router's weight multiplies an expert's output or its input. */
export type WeightPlace = (typeof weightPlaces)[number];

export const sharedGates = ["none", "sigmoid", "softmax"] as const;
/**
 * The weight of the shared experts' output: 1, the sigmoid of one more linear output, or (residual MoE) the second of a
 * softmax over two, the first of which then multiplies the routed experts' weights.
 */
export type SharedGate = (typeof sharedGates)[number];

/** The sizes and formula of one MoE layer, as devices compute it. */
export interface LayerDescription extends Gating {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  /** E, experts that the router chooses from. */
  readonly numExperts: number;
  /**
   * So many experts after the bank's, of intermediateSize too, process every token. A shared expert of another width is stored
   * as several of these, zeros in the last. The bank that begins with expert 0 has them.
   */
  readonly sharedExperts: number;
  readonly sharedGate: SharedGate;
  readonly activation: Activation;
  readonly clamp: Clamp;
  /** Whether a third projection multiplies the activation: down(act(gate x) * (up x) * (factor x)). */
  readonly factor: boolean;
  readonly outputActivation: OutputActivation;
  readonly weightOn: WeightPlace;
  /** The formats in which matrices are stored, by role. */
  readonly formats: LayerFormats;
  /** Storage dtype of biases, but for the selection's, which is f32. */
  readonly biasDType: DType;
  /**
   * The experts that the layer holds of those that its router chooses from. Choices of others add nothing, so that the outputs
   * of several banks add up to the layer's.
   */
  readonly bank: ExpertRange;
}

/** The formats in which a device stores a layer's matrices, by role. */
export interface LayerFormats {
  readonly router: WeightFormatName;
  readonly sharedGate: WeightFormatName;
  readonly gate: WeightFormatName;
  readonly up: WeightFormatName;
  readonly factor: WeightFormatName;
  readonly down: WeightFormatName;
}

/** Experts first .. first + count - 1. */
export interface ExpertRange {
  readonly first: number;
  readonly count: number;
}

/** Counters of conditions that are defined but worth knowing. */
export interface Warnings {
  /** Rows of router logits without any finite entry; their weights are 0. */
  readonly nonFiniteLogitRows: number;
}

/** Expert weights [E, N, K] in the layout that a device's grouped GEMM reads fastest. */
export interface PackedHandle {
  /**
   * Enqueues the repacking of expert `expert`. `weight` is [N, K], or where the activation is gated [I, K] with `up`
   * [I, K] the other half. Rows and columns that a matrix lacks are zeros.
   */
  setExpert(expert: number, weight: WeightMatrix, up: WeightMatrix | null): void;
  readonly byteLength: number;
  free(): void;
}

/** One layer's weights on a device, and the fused stages over them. */
export interface LayerHandle {
  /** Enqueues the copy of the router's weight [E, H] and bias [E]. */
  setRouter(weight: WeightMatrix, bias: StridedMatrix | null): void;
  /** Enqueues the copy of the bias [E] of the selection, kept in float32. */
  setSelectionBias(bias: StridedMatrix): void;
  /** Enqueues the copy of the shared experts' gate: weight [1, H] and bias [1] of a sigmoid, [2, H] and [2] of a softmax. */
  setSharedGate(weight: WeightMatrix, bias: StridedMatrix | null): void;
  /**
   * Enqueues the repacking of one expert's weights: 0 .. bank.count - 1, then the shared ones; a null bias is no bias, for all routed
   * experts or none. Rows and columns that a matrix lacks are zeros.
   */
  setExpert(expert: number, weights: ExpertMatrices): void;
  /** logits [T, E] f32 of x [T, H]. */
  logits(x: TensorHandle, logits: TensorHandle): void;
  /** ids [T, k] i32 and weights [T, k] f32 of x [T, H]. */
  route(x: TensorHandle, ids: TensorHandle, weights: TensorHandle): void;
  /**
   * y [T, H] of x [T, H]; with routing [T, any k] given it is read, else computed. At most `maxChoices` choices fall on
   * experts of the bank; -1 where nothing is known.
   * @param stages others to run than all that are needed: with `gating` among them ids and weights are written.
   */
  forward(
    x: TensorHandle,
    y: TensorHandle | null,
    ids: TensorHandle | null,
    weights: TensorHandle | null,
    maxChoices: number,
    stages?: StageList,
  ): void;
  /** Enqueues the capture of a forward, which keeps the tensors and the weights alive; ids are -1 or an expert's. */
  capture(...forward: Parameters<LayerHandle["forward"]>): CapturedHandle;
  /** The stages of the last forward, not of a replay; waits for it. */
  stageTimes(): Promise<StageTimes>;
  /** Bytes of all weights as stored, of those that are set so far. */
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

/**
 * One expert's weights: gate (null where not gated), up and factor (null where there is none) [I, H], down [H, I], biases
 * [I], [I], [H] or null.
 */
export interface ExpertMatrices {
  readonly gate: WeightMatrix | null;
  readonly up: WeightMatrix;
  readonly factor: WeightMatrix | null;
  readonly down: WeightMatrix;
  readonly gateBias: StridedMatrix | null;
  readonly upBias: StridedMatrix | null;
  readonly downBias: StridedMatrix | null;
}

/** What the operators of a device take. */
export interface DeviceHandles {
  readonly tensor: TensorHandle;
  readonly matrix: StridedMatrix;
  readonly packedExperts: PackedHandle;
}

/**
 * What every device implements: memory, layers, and every operator of lib/core/operators. Arguments are checked before
 * (lib/operators), outputs are allocated before; every operator is enqueued on the device's in-order stream.
 */
export interface Backend extends Operators<OperatorTable, DeviceHandles> {
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

  /** Memory for packed expert weights [numExperts, N, K], N = 2I rows where the activation is gated. */
  packedExperts(
    numExperts: number,
    rows: number,
    columns: number,
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
  ): PackedHandle;
  /** A layer whose weights are to be set or, with `stored`, are the parts of a layer of an equal description. */
  layer(description: LayerDescription, stored?: WeightParts): LayerHandle;

  /**
   * Names the layout of such a layer's parts, fit for file names: parts under an equal name are interchangeable, between
   * processes too. Empty where layers cannot be made over stored parts.
   */
  weightLayout(description: LayerDescription): string;
  /** The first bytes of an open file as a tensor for `layer`: mapped, not read. The file must not change after. */
  mapFile(descriptor: number, byteLength: number): TensorHandle;
}
