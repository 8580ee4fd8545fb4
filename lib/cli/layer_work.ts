import type { LayerDescription, StageTimes } from "../backend.js";
import { type DType, dtypes } from "../dtype.js";
import { gateUpRows } from "../layer/config.js";

/** What a computation must do at least, however it is done. */
export interface Work {
  /** Floating-point operations; a multiply-add is two. */
  readonly operations: number;
  /** Bytes of the weights of the experts that have tokens, each read once. */
  readonly weightBytes: number;
}

/** The work of one forward of a layer. */
export interface LayerWork extends Work {
  readonly stages: Readonly<Record<keyof StageTimes, Work>>;
  /** Bytes of x read and y written, once each. */
  readonly activationBytes: number;
}

/** Counts the work of one forward of `tokens` tokens of `dtype`, routed as `tokensPerExpert` says. */
export function layerWork(
  description: LayerDescription,
  tokens: number,
  tokensPerExpert: ArrayLike<number>,
  dtype: DType,
): LayerWork {
  const { hiddenSize, intermediateSize, numExperts, weightDType } = description;
  const { bytes } = dtypes[weightDType];
  const counts = Array.from(tokensPerExpert);
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const touched = counts.filter((count) => count > 0).length;
  const product = (productRows: number, matrices: number, size: number): Work => ({
    operations: 2 * productRows * size,
    weightBytes: matrices * size * bytes,
  });
  const stages = {
    router: product(tokens, 1, numExperts * hiddenSize),
    gating: { operations: 0, weightBytes: 0 },
    sort: { operations: 0, weightBytes: 0 },
    gateUp: product(rows, touched, gateUpRows(description) * hiddenSize),
    down: product(rows, touched, hiddenSize * intermediateSize),
    combine: { operations: 2 * rows * hiddenSize, weightBytes: 0 },
  };
  const all = Object.values(stages);
  return {
    stages,
    operations: all.reduce((sum, stage) => sum + stage.operations, 0),
    weightBytes: all.reduce((sum, stage) => sum + stage.weightBytes, 0),
    activationBytes: 2 * tokens * hiddenSize * dtypes[dtype].bytes,
  };
}
