import type { Tensor } from "../core/tensor.js";
import type { Inputs } from "./inputs.js";

export type OperatorName =
  | "router_projection"
  | "gating"
  | "limit_capacity"
  | "expert_slots"
  | "expert_choice"
  | "hierarchical_gating"
  | "sort"
  | "permute"
  | "unpermute"
  | "grouped_gemm"
  | "combine"
  | "router_scores"
  | "expert_totals"
  | "column_means"
  | "load_balancing_loss"
  | "z_loss"
  | "imbalance"
  | "update_selection_bias"
  | "accumulate"
  | "random"
  | "jitter"
  | "noisy_logits"
  | "expert_load"
  | "layer";

/** One problem with its own inputs, which every device must solve as `reference` does. */
export interface Case {
  readonly name: string;
  readonly operator: OperatorName;
  /** Allowed error by output, relative to the largest expected magnitude; outputs not listed must be exact. */
  readonly tolerances: Readonly<Record<string, number>>;
  /** Enqueues the work on the inputs' device and returns the outputs by name. */
  run(inputs: Inputs): Readonly<Record<string, Tensor>>;
}
