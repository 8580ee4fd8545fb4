import type { ExpertFormats, LayerDescription } from "../core/device/backend.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import { bitsPerWeight, weightFormat } from "../core/formats/weight_formats.js";
import { sharedGateRows } from "../core/layer/shared_gate.js";
import type { StageTimes } from "../core/layer/stages.js";
import { type DType, dtypes } from "../core/tensors/dtype.js";
import { expertsWithWeights } from "./description/identity_experts.js";
import { presentRoles } from "./description/storage.js";

/** The least that a computation must do, however it is implemented. */
export interface Work {
  /** Floating-point operations; a multiply-add is two. */
  readonly operations: number;
  /** Bytes of weights read, each once; of experts, only those that have tokens. */
  readonly weightBytes: number;
}

/** The work of one forward of a layer. */
export interface LayerWork extends Work {
  readonly stages: Readonly<Record<keyof StageTimes, Work>>;
  /** Bytes of x and y, each moved once. */
  readonly activationBytes: number;
}

/** How many rows the experts get. Counted, or expected values, which need not be whole numbers. */
export interface RoutedRows {
  /** T */
  readonly tokens: number;
  /** Rows of all experts: choices of an expert by a token. */
  readonly rows: number;
  /** Experts that at least one token chose. */
  readonly touchedExperts: number;
}

/** A layer whose weights are counted. */
type CountedLayer = LayerDescription & {
  readonly latent?: { readonly size: number } | undefined;
  readonly identityExperts?: number;
};

/** Numbers of weights in a layer's matrices. */
export interface WeightCounts {
  readonly router: number;
  readonly expert: ExpertWeightCounts;
  /** Weights of the shared expert; zeros if there is none. */
  readonly shared: ExpertWeightCounts;
  readonly sharedGate: number;
  /** Weights of one of the two projections of `latent`; 0 without. */
  readonly latent: number;
}

/** The matrices of the first products. */
const firstRoles = ["gate", "up", "multiplier"] as const;

export interface ExpertWeightCounts {
  /** Weights of the first products: gate, up and multiplier. */
  readonly gateUp: number;
  readonly down: number;
}

/**
 * Counts a layer's weights.
 * @param sharedWidth width of the shared expert; default the description's, which is rounded up to a multiple of I.
 */
export function countWeights(
  description: CountedLayer,
  sharedWidth = description.sharedExperts * description.intermediateSize,
): WeightCounts {
  const { hiddenSize, intermediateSize, numExperts, sharedGate, latent } = description;
  const expert = (width: number, hidden = hiddenSize): ExpertWeightCounts => ({
    gateUp: presentRoles(firstRoles, description).length * width * hidden,
    down: width * hidden,
  });
  return {
    router: numExperts * hiddenSize,
    expert: expert(intermediateSize, latent?.size),
    shared: expert(sharedWidth),
    sharedGate: sharedGateRows(sharedGate) * hiddenSize,
    latent: (latent?.size ?? 0) * hiddenSize,
  };
}

/** Weights of a layer, counting `experts` of its experts: E for all, k for those that one token uses. */
export function totalWeights(counts: WeightCounts, experts: number): number {
  const { router, expert, shared, sharedGate, latent } = counts;
  return router + sharedGate + 2 * latent + experts * expertSize(expert) + expertSize(shared);
}

/** Weights of one expert. */
export function expertSize({ gateUp, down }: ExpertWeightCounts): number {
  return gateUp + down;
}

/** The rows of `tokens` tokens, from the counts of an actual routing to the experts that have weights. */
export function countedRows(tokens: number, tokensPerExpert: ArrayLike<number>): RoutedRows {
  const counts = Array.from(tokensPerExpert);
  return {
    tokens,
    rows: counts.reduce((sum, count) => sum + count, 0),
    touchedExperts: counts.filter((count) => count > 0).length,
  };
}

/**
 * Expected rows if each of `tokens` tokens chooses k of E experts, independently and all equally likely: no token
 * chooses a given expert with probability (1 - k/E)^T. Experts that return their input have no rows.
 */
export function expectedRows(
  description: LayerDescription & { readonly identityExperts?: number },
  tokens: number,
): RoutedRows {
  const { numExperts, topK } = description;
  const experts = expertsWithWeights(description);
  return {
    tokens,
    rows: (tokens * topK * experts) / numExperts,
    touchedExperts: experts * (1 - (1 - topK / numExperts) ** tokens),
  };
}

/** Counts the work of one forward with tokens of `dtype`. */
export function layerWork(
  description: CountedLayer,
  { tokens, rows, touchedExperts }: RoutedRows,
  dtype: DType,
  counts: WeightCounts = countWeights(description),
): LayerWork {
  const { hiddenSize, intermediateSize, sharedExperts, formats } = description;
  const { router, expert, shared, sharedGate, latent } = counts;
  const routedSize = description.latent?.size ?? hiddenSize;
  const none: Work = { operations: 0, weightBytes: 0 };
  const forAll = (size: number, bytes: number): Work => ({ operations: 2 * tokens * size, weightBytes: size * bytes });
  const forChosen = (size: number, bytes: number): Work => ({
    operations: 2 * rows * size,
    weightBytes: touchedExperts * size * bytes,
  });
  /** Bytes of a weight of the first products, on average, and of the last. */
  const bytesOfExpert = (stored: ExpertFormats, columns: number) => {
    const first = presentRoles(firstRoles, description);
    const gateUp = first.reduce((total, role) => total + bytesOf(stored[role], columns), 0) / first.length;
    return { gateUp, down: bytesOf(stored.down, intermediateSize) };
  };
  const routedBytes = bytesOfExpert(formats, routedSize);
  const sharedBytes = bytesOfExpert(formats.shared ?? formats, hiddenSize);
  const stages = {
    router: sum([
      forAll(router, bytesOf(formats.router, hiddenSize)),
      forAll(sharedGate, bytesOf(formats.sharedGate, hiddenSize)),
    ]),
    gating: none,
    sort: none,
    gateUp: sum([forChosen(expert.gateUp, routedBytes.gateUp), forAll(shared.gateUp, sharedBytes.gateUp)]),
    down: sum([forChosen(expert.down, routedBytes.down), forAll(shared.down, sharedBytes.down)]),
    combine: { operations: 2 * (rows * routedSize + tokens * sharedExperts * hiddenSize), weightBytes: 0 },
  };
  const projections = [
    forAll(latent, bytesOf(formats.latentDown ?? formats.router, hiddenSize)),
    forAll(latent, bytesOf(formats.latentUp ?? formats.router, routedSize)),
  ];
  const activationBytes = 2 * tokens * hiddenSize * dtypes[dtype].bytes;
  return { stages, ...sum([...Object.values(stages), ...projections]), activationBytes };
}

/** Bytes of one weight of a matrix with `columns` columns, its share of the scales included. */
function bytesOf(format: WeightFormatName, columns: number): number {
  return bitsPerWeight(weightFormat(format), columns) / 8;
}

/** The work of one forward of `tokens` tokens if all choices of experts are equally likely. */
export interface ExpectedWork {
  /** T. */
  readonly tokens: number;
  /** Experts that at least one token chooses, on average. */
  readonly touchedExperts: number;
  /** Weights and tokens read, results written. */
  readonly bytes: number;
  /** `bytes` / T. */
  readonly bytesPerToken: number;
  /** Floating-point operations; a multiply-add is two. */
  readonly operationsPerToken: number;
  /** The arithmetic intensity. */
  readonly operationsPerByte: number;
}

export function expectedWork(
  description: CountedLayer,
  tokens: number,
  dtype: DType,
  counts?: WeightCounts,
): ExpectedWork {
  const load = expectedRows(description, tokens);
  const { operations, weightBytes, activationBytes } = layerWork(description, load, dtype, counts);
  const bytes = weightBytes + activationBytes;
  return {
    tokens,
    touchedExperts: load.touchedExperts,
    bytes,
    bytesPerToken: bytes / tokens,
    operationsPerToken: operations / tokens,
    operationsPerByte: operations / bytes,
  };
}

function sum(works: readonly Work[]): Work {
  return {
    operations: works.reduce((total, { operations }) => total + operations, 0),
    weightBytes: works.reduce((total, { weightBytes }) => total + weightBytes, 0),
  };
}
