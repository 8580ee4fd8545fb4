import type { OperatorName } from "../core/operators/table.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { Inputs } from "./inputs/inputs.js";

/** What has cases of its own beside the operators of the table, and the operators that it calls. */
export const composedOperators = {
  loadBalancingLoss: ["routerScores", "columnMeans", "expertTotals", "balanceLoss"],
  zLoss: ["routerScores", "columnMeans"],
  loadBalancingLossBackward: [
    "columnMeans",
    "expertTotals",
    "balanceLossBackward",
    "columnMeansBackward",
    "routerScoresBackward",
  ],
  zLossBackward: ["columnMeans", "routerScores", "columnMeansBackward", "routerScoresBackward"],
  expertChoiceBackward: ["gatingBackward"],
  permuteBackward: ["combine"],
  groupedGemmBackward: ["groupedGemm", "groupedGemmWeightBackward"],
  layer: [],
  layerBackward: [],
} as const satisfies Readonly<Record<string, readonly OperatorName[]>>;

/** What a case is about: an operator, or something composed, by the name of its function. */
export type CaseOperator = OperatorName | keyof typeof composedOperators;

/** One problem with its own inputs, which every device must solve as `reference` does. */
export interface Case<Operator extends string = CaseOperator> {
  readonly name: string;
  readonly operator: Operator;
  /** Allowed error by output, relative to the largest expected magnitude; outputs not listed must be exact. */
  readonly tolerances: Readonly<Record<string, number>>;
  /** What errors of an output are relative to if its largest value is smaller; default 0. */
  readonly magnitudes?: Readonly<Record<string, number>>;
  /**
   * Outputs whose errors are relative to the largest value of all of a group, by the group's name: each may be a sum of which
   * nearly all cancels.
   */
  readonly groups?: Readonly<Record<string, string>>;
  /**
   * Whether other implementations are not given the case: it rounds tokens as only this package does, draws noise by its
   * generator, makes several calls in turn, or adds to what an output holds. Default false.
   */
  readonly devicesOnly?: boolean | undefined;
  /** Enqueues the work on the inputs' device and returns the outputs by name. */
  run(inputs: Inputs): Readonly<Record<string, Tensor>>;
}
