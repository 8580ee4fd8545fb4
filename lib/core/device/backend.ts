import type { TokenFormat } from "../formats/token_format.js";
import type { WeightFormatName, WeightMatrix } from "../formats/weight_format.js";
import type { Activation, Clamp, OutputActivation } from "../layer/activation.js";
import type { ExpertRange } from "../layer/expert_range.js";
import type { Gating, WeightPlace } from "../layer/routing_rule.js";
import type { SharedGate } from "../layer/shared_gate.js";
import type { StageList, StageTimes } from "../layer/stages.js";
import type { QuantizedField, WeightRole } from "../layer/weight_role.js";
import type { Operators, OperatorTable } from "../operators/table.js";
import type { DType } from "../tensors/dtype.js";
import type { Shape } from "../tensors/shape.js";
import type { StridedMatrix, TensorHandle } from "../tensors/tensor_handle.js";

export const deviceKinds = ["reference", "cpu", "simt", "cuda"] as const;
/**
 * The kinds of devices; docs/devices.md describes each.
 *
 * @useDeclaredType
 */
export type DeviceKind = (typeof deviceKinds)[number];

/** The sizes and formula of one MoE layer, as devices compute it. */
export interface LayerDescription extends Gating {
  /** H, width of a token. */
  readonly hiddenSize: number;
  /** I, width inside one expert. */
  readonly intermediateSize: number;
  /** E, the experts that the router chooses from. */
  readonly numExperts: number;
  /**
   * Number of experts, stored after the bank's and also of width intermediateSize, that process every token. A shared
   * expert of another width is stored as several of these, the last one padded with zeros. Only the bank that begins
   * with expert 0 has them.
   */
  readonly sharedExperts: number;
  /** The weight of the shared experts' output. */
  readonly sharedGate: SharedGate;
  /** The activation after the first products. */
  readonly activation: Activation;
  /** Parameters of an activation that has some. */
  readonly clamp: Clamp;
  /** The same parameters for the shared experts. */
  readonly sharedClamp: Clamp;
  /** Whether a third projection multiplies the activation: down(act(gate x) * (up x) * (multiplier x)). */
  readonly multiplier: boolean;
  /** Applied to an expert's output, before it is weighted. */
  readonly outputActivation: OutputActivation;
  /** What the router's weight multiplies. */
  readonly weightOn: WeightPlace;
  /** The formats in which matrices are stored, by role. */
  readonly formats: LayerFormats;
  /**
   * Whether gate and up are products of their own though their formats are equal, because their input scales and orders
   * may differ.
   */
  readonly separateGate: boolean;
  /** Storage dtype of all biases except the selection bias, which is f32. */
  readonly biasDType: DType;
  /** What the experts' products with quantised weights round their rows to. */
  readonly tokenFormat: TokenFormat;
  /**
   * The experts that this layer holds. Choices of other experts add nothing, so the outputs of the banks of a layer add
   * up to the layer's output.
   */
  readonly bank: ExpertRange;
}

/** The formats of experts' matrices, by role. */
export interface ExpertFormats {
  /** Ignored if the activation is not gated. */
  readonly gate: WeightFormatName;
  /** The second half of a gated product, or the whole product. */
  readonly up: WeightFormatName;
  /** The third projection; ignored if there is none. */
  readonly multiplier: WeightFormatName;
  /** The projection back to the hidden size. */
  readonly down: WeightFormatName;
}

/** The formats in which a device stores a layer's matrices, by role. */
export interface LayerFormats extends ExpertFormats {
  /** The router, and the additional ones of noisy and hierarchical gating. */
  readonly router: WeightFormatName;
  /** The shared experts' gate; ignored if there is none. */
  readonly sharedGate: WeightFormatName;
  /** The formats of the shared experts, if they differ. */
  readonly shared?: ExpertFormats;
  /** The projection to the width of the routed experts, if there is one; devices' layers do not hold it. */
  readonly latentDown?: WeightFormatName;
  /** The projection back. */
  readonly latentUp?: WeightFormatName;
}

export const offloadPolicies = ["lfru", "lru", "lfu"] as const;
/**
 * Which resident expert makes room for another; see OffloadOptions.
 *
 * @useDeclaredType
 */
export type OffloadPolicy = (typeof offloadPolicies)[number];

/** How many experts are resident, and which make room. */
export interface BudgetRule {
  /** Experts that are resident at most; 0: as many as fit into `bytes`. */
  readonly slots: number;
  readonly bytes: number;
  readonly policy: OffloadPolicy;
}

/** Which experts of a bank are resident. Experts are numbered within the bank. */
export interface OffloadRule extends BudgetRule {
  /** What the layer shares with others, in place of slots, bytes and policy of its own; null: nothing. */
  readonly budget: OffloadBudgetHandle | null;
  readonly pinned: readonly number[];
  /** Experts that are not resident and have fewer rows are left to the CPU; 0: none. */
  readonly rowsToLoad: number;
}

/** What was done so far to have experts resident. */
export interface OffloadCounts {
  /** Forwards, each counted once; on `cpu`, those of more than 32,768 rows count as several. */
  readonly calls: number;
  /** Experts that a forward needed and that were resident. */
  readonly hits: number;
  /** Experts that a forward needed and that were not resident. */
  readonly misses: number;
  /** How many of the misses the CPU computed; the others were loaded. */
  readonly onCpu: number;
  /** Experts that were loaded by a prefetch, or after the CPU had computed them. */
  readonly prefetched: number;
  /** Experts that made room for others, also of other layers that share the budget. */
  readonly evictions: number;
  /** Bytes loaded, by forwards and prefetches. */
  readonly loadedBytes: number;
}

/** What a layer with offload has done so far. */
export interface OffloadStats extends OffloadCounts {
  /** Experts of the layer that can be resident at a time. */
  readonly slots: number;
  /** Bytes of one expert, packed. */
  readonly expertBytes: number;
  /** The experts that are resident now, in ascending order. */
  readonly resident: readonly number[];
}

/** What the layers of a budget have done so far, those that were disposed of included: the sums of their counts. */
export interface OffloadBudgetStats extends OffloadCounts {
  /** Experts that can be resident at a time; 0 while no layer has joined. */
  readonly slots: number;
  /** Bytes of one expert, packed; 0 while no layer has joined. */
  readonly expertBytes: number;
  /** Layers that share the budget now. */
  readonly layers: number;
  /** Bytes of the experts that are resident now. */
  readonly residentBytes: number;
}

/** Counters of conditions that are defined but worth knowing. */
export interface Warnings {
  /** Rows of router logits without any finite entry; their weights are 0. */
  readonly nonFiniteLogitRows: number;
}

/** Expert weights [E, N, K] in the layout that a device's grouped GEMM reads fastest. */
export interface PackedHandle {
  /**
   * Enqueues the repacking of expert `expert`. `weight` is [N, K]; if the activation is gated, `weight` is the gate
   * half [I, K] and `up` the other half [I, K]. A smaller matrix is padded with zeros.
   */
  setExpert(expert: number, weight: WeightMatrix, up: WeightMatrix | null): void;
  /** Whether the packing of an expert has failed; see {@link TensorHandle}. */
  readonly failed: boolean;
  readonly byteLength: number;
  free(): void;
}

/**
 * Where a forward also writes its rows before the activation: those of the R = T * slots of its tokens, in the order of
 * experts. Rows without an expert become zeros.
 */
export interface InnerRowHandles {
  /** [R, P], gate before up, or up alone; of any float dtype. */
  readonly pre: TensorHandle;
  /** [R, I], of the third projection. */
  readonly multiplied?: TensorHandle | undefined;
}

/** One layer's weights on a device, and the fused stages that use them. */
export interface LayerHandle {
  /** Enqueues a copy of the router's weight [E, H] and bias [E]. */
  setRouter(weight: WeightMatrix, bias: StridedMatrix | null): void;
  /** Enqueues a copy of the selection bias [E], kept in float32. */
  setSelectionBias(bias: StridedMatrix): void;
  /**
   * Enqueues a copy of the shared experts' gate: weight [1, H] and bias [1] for a sigmoid, [2, H] and [2] for a
   * softmax.
   */
  setSharedGate(weight: WeightMatrix, bias: StridedMatrix | null): void;
  /**
   * Enqueues the repacking of one expert's weights. Experts 0 .. bank.count - 1 are the routed ones, the shared ones
   * follow. A bias is null for all routed experts or for none. A smaller matrix is padded with zeros.
   */
  setExpert(expert: number, weights: ExpertMatrices): void;
  /**
   * Enqueues a copy of a weight, of `expert` if experts have it, into a float tensor of its size; zeros for a bias that
   * was never set. Quantised weights are dequantised. Not for a layer with offload.
   */
  copyWeight(role: WeightRole, expert: number, target: TensorHandle): void;
  /** Enqueues a copy of the selection bias into a float tensor [E]; zeros if it was never set. */
  copySelectionBias(target: TensorHandle): void;
  /**
   * Enqueues a copy of a field of an expert's quantised matrix, as it was set, into a tensor of its size and dtype; an
   * input scale of ones, or the order of the columns, if it has none. A matrix's scalar is in the copied scales. Not for a
   * layer with offload.
   */
  copyField(role: keyof ExpertFormats, expert: number, field: QuantizedField, target: TensorHandle): void;
  /** Enqueues logits [T, E] f32 of x [T, H]. */
  logits(x: TensorHandle, logits: TensorHandle): void;
  /** Enqueues ids [T, k] i32 and weights [T, k] f32 of x [T, H]. */
  route(x: TensorHandle, ids: TensorHandle, weights: TensorHandle): void;
  /**
   * Enqueues y [T, H] of x [T, H]. Uses the routing in `ids` and `weights` [T, any k], or computes one if they are
   * null.
   * @param maxChoices upper bound on the choices that fall on experts of the bank; -1 if unknown.
   * @param stages the stages to run, by default all that are needed. If `gating` is one of them, `ids` and `weights`
   * are outputs.
   * @param logits where to write the router's logits [T, E] f32, if `router` is one of the stages; otherwise those that
   * `gating` is to read.
   * @param residual [T, H], added to y in the stage `combine`.
   * @param rows where to write what the stage `gateUp` gives before the activation; default nowhere. Not for a layer with
   * offload.
   */
  forward(
    x: TensorHandle,
    y: TensorHandle | null,
    ids: TensorHandle | null,
    weights: TensorHandle | null,
    maxChoices: number,
    stages?: StageList,
    logits?: TensorHandle | undefined,
    residual?: TensorHandle | undefined,
    rows?: InnerRowHandles | undefined,
  ): void;
  /**
   * Enqueues the capture of a forward. It keeps the tensors and weights alive. Every id must be -1 or an expert's. With
   * offload, all experts must have a slot, and they keep it while the capture lives.
   */
  capture(...forward: Parameters<LayerHandle["forward"]>): CapturedHandle;
  /** How many experts of the bank can be resident; 0 for a layer without offload. */
  readonly offloadSlots: number;
  /** Enqueues loads of experts of the bank that are not resident. Only for layers with offload. */
  prefetch(experts: readonly number[]): void;
  /** What was done by the work enqueued so far, once it is done. Experts are numbered within the bank. */
  offloadStats(): Promise<OffloadStats>;
  /** Stage times of the last forward (replays do not count), once it is done. GPUs time those after the first call. */
  stageTimes(): Promise<StageTimes>;
  /** Bytes of the weights that have been set, as stored. */
  readonly byteLength: number;
  /**
   * Resolves when all work enqueued so far is done; rejects if work that sets the weights has failed. Errors of other work
   * are left to the next wait.
   */
  weightsSet(): Promise<void>;
  /**
   * Checksums of the weights as stored, once the work that sets them is done: what a part called `checksums` must hold.
   * A layer over the parts of a file checks weights against it before it first uses them. Rejects as {@link weightsSet}.
   */
  checksums(): Promise<BigUint64Array>;
  /** The weights as stored, in the layout that `weightLayout` names; valid once the work that sets them is done. */
  parts(): WeightParts;
  free(): void;
}

/** Cancels enqueued work that has not begun. */
export interface CancellationHandle {
  /** @param reason the `cause` of the errors of the work that does not run. */
  cancel(reason: unknown): void;
  /** Whether there is enqueued work that it could cancel, or that is running. */
  pending(): boolean;
}

/** Slots that layers of one device share. They keep it alive. */
export interface OffloadBudgetHandle {
  /** What was done by the work enqueued so far, once it is done. */
  stats(): Promise<OffloadBudgetStats>;
  /** Bytes of all slots; 0 while no layer has joined. */
  readonly byteLength: number;
  free(): void;
}

/** A forward over fixed tensors, prepared once and run many times. */
export interface CapturedHandle {
  /** Enqueues the forward. */
  replay(): void;
  free(): void;
}

/**
 * A layer's stored weights by name: u8 tensors that share the layer's memory and keep it alive. Read-only.
 */
export type WeightParts = Readonly<Record<string, TensorHandle>>;

/**
 * One expert's weights: gate (null if not gated), up and multiplier (null if the layer has none) [I, H], down [H, I];
 * biases [I], [I], [H], or null.
 */
export interface ExpertMatrices {
  readonly gate: WeightMatrix | null;
  readonly up: WeightMatrix;
  readonly multiplier: WeightMatrix | null;
  readonly down: WeightMatrix;
  readonly gateBias: StridedMatrix | null;
  readonly upBias: StridedMatrix | null;
  readonly downBias: StridedMatrix | null;
}

/** What the operators of a device take as operands. */
export interface DeviceHandles {
  readonly tensor: TensorHandle;
  readonly matrix: StridedMatrix;
  readonly weight: WeightMatrix;
  readonly packedExperts: PackedHandle;
}

/**
 * What every device implements: memory, layers, and every operator of lib/core/operators. Callers (lib/operators) have
 * checked the arguments and allocated the outputs; each call enqueues on the device's in-order stream.
 */
export interface Backend extends Operators<OperatorTable, DeviceHandles> {
  readonly kind: DeviceKind;
  /** What this device is, for display. */
  readonly description: string;

  /** New memory, not initialised (NaN patterns if the device was opened with `poison`). */
  empty(dtype: DType, shape: Shape): TensorHandle;
  /**
   * A tensor over the bytes of a SharedArrayBuffer, which stays alive while anything uses it.
   * @throws UNSUPPORTED_OPERATION if the device cannot address them.
   */
  wrap(bytes: Uint8Array, dtype: DType, shape: Shape): TensorHandle;
  /** A tensor over memory that the device can address; calls `release` when nothing uses it any more. */
  wrapPointer(address: bigint, dtype: DType, shape: Shape, release: (() => void) | null): TensorHandle;
  /** Resolves when all work enqueued so far is done; rejects with the first error since the last wait. */
  synchronize(): Promise<void>;
  synchronizeSync(): void;
  /** Resolves when all work enqueued so far is in order on the device; rejects as `synchronize` does. */
  submitted(): Promise<void>;
  warnings(): Warnings;
  cancellation(): CancellationHandle;
  /**
   * What cancels the work that is enqueued from now on; null: nothing. Work that is cancelled does not run, and reading
   * what it was to write is ABORTED.
   */
  cancelWith(cancellation: CancellationHandle | null): void;
  /** Seconds that the stream has spent on work so far; null on a device that does the work within the call. */
  busySeconds(): number | null;
  /** Resolves when all work enqueued so far is done and the stream has ended; takes no more work meanwhile. */
  close(): Promise<void>;
  /** Ends the stream without waiting: drops work that has not begun, whose promises reject with DISPOSED. */
  dispose(): void;

  /**
   * Memory for packed expert weights [numExperts, N, K]; N = 2I rows if the activation is gated.
   * @param onceRows of a single product, which alone will read them. The device may then read the weights where they are.
   */
  packedExperts(
    numExperts: number,
    rows: number,
    columns: number,
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
    tokenFormat: TokenFormat,
    onceRows?: number,
  ): PackedHandle;
  /**
   * A layer whose weights are set later or, with `stored`, are the parts of a layer of an equal description.
   * @param offload which of the bank's experts are resident; by default all are.
   */
  layer(description: LayerDescription, stored?: WeightParts, offload?: OffloadRule): LayerHandle;
  /** A budget for layers of this device. */
  offloadBudget(rule: BudgetRule): OffloadBudgetHandle;

  /**
   * Name of the layout of a layer's parts, usable in file names: parts with equal names are interchangeable, across
   * processes too. Empty if this device cannot make layers over stored parts.
   */
  weightLayout(description: LayerDescription): string;
  /** Maps the first bytes of an open file, opened as `path`, as a tensor for `layer`, without reading them. */
  mapFile(descriptor: number, path: string, byteLength: number): TensorHandle;
}
