export type { Activation, DeviceKind, LayerDescription, StageTimes, Warnings } from "./backend.js";
export type { LoadFileOptions, LoadOptions } from "./checkpoint/load.js";
export type { CacheStatus } from "./checkpoint/weight_cache.js";
export { Device, type DeviceName, listDevices, openDevice } from "./device.js";
export type { ArrayOf, DType, FloatDType, RawArrayOf } from "./dtype.js";
export { isMoeError, MoeError, type MoeErrorCode } from "./errors.js";
export { CapturedForward, type CaptureOptions } from "./layer/captured_forward.js";
export type { MoeLayerConfig } from "./layer/config.js";
export type { ExpertWeights } from "./layer/expert_weights.js";
export type { HierarchyConfig } from "./layer/hierarchy.js";
export { type LayerWeights, MoeLayer, type MoeLayerOptions } from "./layer/layer.js";
export type { GateLogits, Training, TrainingLogits } from "./layer/training.js";
export type { Orient, Part, Stacking, StoredWeight, Weight, WeightLayout } from "./layer/weight_layout.js";
export type { DeviceInfo, DeviceOptions } from "./native.js";
export type { Distribution } from "./noise_backend.js";
export { accumulate, readTotals } from "./operators/accumulate.js";
export { type Capacity, type CapacitySize, expertCapacity } from "./operators/capacity.js";
export { type ColumnMeansOptions, columnMeans } from "./operators/column_means.js";
export { combine } from "./operators/combine.js";
export {
  type ExpertChoice,
  type ExpertChoiceOptions,
  type ExpertChoiceRule,
  expertChoice,
} from "./operators/expert_choice.js";
export { type ExpertLoadOptions, expertLoad } from "./operators/expert_load.js";
export { type ExpertSlotsOptions, expertSlots } from "./operators/expert_slots.js";
export {
  type ExpertTotals,
  type ExpertTotalsOptions,
  expertTotals,
  type WeightedExpertTotals,
} from "./operators/expert_totals.js";
export { type GatingOptions, gating, type Routing } from "./operators/gating.js";
export { type GroupedGemmOptions, groupedGemm, PackedExperts, packExperts } from "./operators/grouped_gemm.js";
export { type HierarchicalGatingOptions, hierarchicalGating } from "./operators/hierarchical_gating.js";
export { cvSquared, maximumViolation } from "./operators/imbalance.js";
export { type JitterOptions, jitter } from "./operators/jitter.js";
export { type LimitCapacityOptions, limitCapacity } from "./operators/limit_capacity.js";
export { type LoadBalancingLossOptions, loadBalancingLoss } from "./operators/load_balancing_loss.js";
export { type NoisyLogits, type NoisyLogitsOptions, noisyLogits } from "./operators/noisy_logits.js";
export { permute, unpermute } from "./operators/permute.js";
export { type RandomOptions, random, type Seed } from "./operators/random.js";
export { routerProjection } from "./operators/router_projection.js";
export { type RouterScores, type RouterScoresOptions, routerScores } from "./operators/router_scores.js";
export { type RouterStatistics, routerStatistics } from "./operators/router_statistics.js";
export { type SortedRows, sort } from "./operators/sort.js";
export { updateSelectionBias } from "./operators/update_selection_bias.js";
export { zLoss } from "./operators/z_loss.js";
export type { Gating, Scoring } from "./routing_rule.js";
export type { Shape } from "./shape.js";
export { type HeatMapOptions, heatMap } from "./statistics/heat_map.js";
export type { RouterHistory, RouterSummary } from "./statistics/router_history.js";
export { type RouterReportOptions, writeRouterReport } from "./statistics/router_report.js";
export { type RecordedRouting, RouterStats, type RouterStatsOptions } from "./statistics/router_stats.js";
export { type NestedArray, Tensor } from "./tensor.js";
export type { TensorSource } from "./tensor_source.js";
