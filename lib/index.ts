/**
 * Devices, tensors, operators, layers, models and optimisers.
 *
 * @module moe-kernels
 */
export type { CacheOptions } from "./checkpoint/cache/cache_option.js";
export type { CacheStatus } from "./checkpoint/cache/weight_cache.js";
export type { ConfigFields } from "./checkpoint/config_fields.js";
export type { ModelFamily } from "./checkpoint/families/family.js";
export { registerFamily } from "./checkpoint/families/registry.js";
export type {
  GroupStorage,
  InspectionOptions,
  LayerGroup,
  ModelInspection,
  ParameterCounts,
  WeightMemory,
} from "./checkpoint/inspect/inspect_model.js";
export type { StoredRole } from "./checkpoint/inspect/inspect_storage.js";
export type { LayerMemory } from "./checkpoint/inspect/layer_memory.js";
export type { LayerDetails, RefusedLayers } from "./checkpoint/inspect/read_layers.js";
export type { SaveOptions, SaveProgress } from "./checkpoint/layer_file/save_layer.js";
export type {
  LoadFileOptions,
  LoadGivenOptions,
  LoadOptions,
  MethodOption,
  WeightOptions,
} from "./checkpoint/load/load_layer.js";
export type { ModelProgress } from "./checkpoint/load/load_layers.js";
export type { Progress } from "./checkpoint/load/matrix_reader.js";
export type { ModelWeightOptions } from "./checkpoint/load/model_weight.js";
export type { NamedWeight } from "./checkpoint/locate/locate_layer.js";
export type { QuantMethod } from "./checkpoint/schemes/quantization.js";
export type { LayerTensorNames, TensorName } from "./checkpoint/tensor_names.js";
export type { DeviceInfo, DeviceOptions } from "./core/addon/native.js";
export type {
  DeviceKind,
  ExpertFormats,
  LayerDescription,
  LayerFormats,
  OffloadBudgetStats,
  OffloadCounts,
  OffloadPolicy,
  OffloadStats,
  Warnings,
} from "./core/device/backend.js";
export { Device, type WrapPointerOptions } from "./core/device/device.js";
export { isMoeError, MoeError, type MoeErrorCode } from "./core/errors.js";
export type { FilePath } from "./core/files/file_path.js";
export type { TokenFormat } from "./core/formats/token_format.js";
export type { CommonFormat, WeightFormatName } from "./core/formats/weight_format.js";
export type { Activation, Clamp, ClampOptions, OutputActivation } from "./core/layer/activation.js";
export type { ExpertRange } from "./core/layer/expert_range.js";
export type {
  Drop,
  ExpertScoring,
  Gating,
  GroupScore,
  KeptDivisor,
  Normalization,
  Scoring,
  SelectionKey,
  WeightPlace,
} from "./core/layer/routing_rule.js";
export type { SharedGate } from "./core/layer/shared_gate.js";
export type { StageName, StageTimes } from "./core/layer/stages.js";
export type { Distribution } from "./core/operators/noise.js";
export type { DLDataType, DLDevice, DLTensor } from "./core/tensors/dlpack.js";
export type { ArrayOf, DType, FloatDType, RawArrayOf } from "./core/tensors/dtype.js";
export { decodeHalves, encodeHalves, type HalfDType } from "./core/tensors/half_arrays.js";
export type { NestedArray, NestedSource } from "./core/tensors/nested.js";
export type { Shape } from "./core/tensors/shape.js";
export { Tensor } from "./core/tensors/tensor.js";
export type { TensorSource } from "./core/tensors/tensor_source.js";
export { type DeviceName, listDevices, openDevice } from "./devices.js";
export type { ExpertTensors } from "./layer/backward/expert_memory.js";
export type { BackwardOptions, LayerBackward } from "./layer/backward/layer_backward.js";
export { LayerParameters, type ParametersOptions } from "./layer/backward/layer_parameters.js";
export { LayerState } from "./layer/backward/layer_state.js";
export { LayerTensors } from "./layer/backward/layer_tensors.js";
export type { GradLosses, LossFactor, LossValues } from "./layer/backward/losses.js";
export type { MoeLayerOptions } from "./layer/create.js";
export type { MoeLayerConfig, MoeLayerDescription, SharedExpertConfig } from "./layer/description/config.js";
export type { HashRouting, HashRoutingConfig } from "./layer/description/hash_routing.js";
export type { Hierarchy, HierarchyConfig } from "./layer/description/hierarchy.js";
export type { Latent, LatentConfig } from "./layer/description/latent.js";
export type { RouterInput, RouterInputConfig, RouterNorm, RouterNormConfig } from "./layer/description/router_input.js";
export type { RouterNoise, RouterNoiseConfig } from "./layer/description/router_noise.js";
export type { WeightDTypes } from "./layer/description/storage.js";
export { CapturedForward, type CaptureOptions } from "./layer/forward/captured_forward.js";
export type {
  ForwardOptions,
  ForwardResult,
  ForwardResultName,
  SavedForward,
  WantedForward,
} from "./layer/forward/forward_options.js";
export type { NormOption } from "./layer/forward/norm_and_residual.js";
export type { ExpertOffload, OffloadOptions, OnMiss } from "./layer/offload.js";
export { OffloadBudget, type OffloadBudgetOptions } from "./layer/offload_budget.js";
export type { TokenIds } from "./layer/router/token_ids.js";
export type { GateLogits, Training, TrainingLogits } from "./layer/router/training.js";
export type { ExpertMatrix, ExpertWeights } from "./layer/weights/expert_weights.js";
export type { LayerWeights } from "./layer/weights/layer_weights.js";
export type { Orient, Stacking, StoredWeight, Weight, WeightLayout } from "./layer/weights/weight_layout.js";
export type { ExpectedWork } from "./layer/work.js";
export { MoeLayer } from "./moe_layer.js";
export {
  type LoadAllOptions,
  type LoadLayerOptions,
  type MemoryOptions,
  type ModelLayer,
  MoeModel,
  type OpenModelOptions,
  openModel,
} from "./moe_model.js";
export type { TokenMaskOption } from "./operators/check.js";
export { type ActivateOptions, activate, type SharedClamp } from "./operators/experts/activate.js";
export {
  type ActivationBackwardOptions,
  type ActivationGradients,
  activationBackward,
} from "./operators/experts/activation_backward.js";
export type { ActivationOptions } from "./operators/experts/activation_options.js";
export { type CombineOptions, combine } from "./operators/experts/combine.js";
export {
  type CombineBackwardOptions,
  type CombineGradients,
  combineBackward,
} from "./operators/experts/combine_backward.js";
export { type GroupedGemmOptions, groupedGemm } from "./operators/experts/grouped_gemm.js";
export {
  type BiasedGroupedGemmGradients,
  type GroupedGemmBackwardOptions,
  type GroupedGemmGradients,
  groupedGemmBackward,
} from "./operators/experts/grouped_gemm_backward.js";
export {
  type BiasedGroupedGemmWeightGradients,
  type GroupedGemmWeightBackwardOptions,
  type GroupedGemmWeightGradients,
  groupedGemmWeightBackward,
} from "./operators/experts/grouped_gemm_weight_backward.js";
export { type LinearOptions, linear } from "./operators/experts/linear.js";
export {
  type LinearBackwardOptions,
  type LinearGradients,
  linearBackward,
} from "./operators/experts/linear_backward.js";
export { PackedExperts, type PackOptions, packExperts } from "./operators/experts/packed_experts.js";
export { permute, unpermute } from "./operators/experts/permute.js";
export { permuteBackward } from "./operators/experts/permute_backward.js";
export type { Part, QuantizedWeight } from "./operators/experts/quantized_weight.js";
export { type RmsNormNumbers, type RmsNormOptions, rmsNorm } from "./operators/experts/rms_norm.js";
export {
  type RmsNormBackwardOptions,
  type RmsNormGradients,
  rmsNormBackward,
} from "./operators/experts/rms_norm_backward.js";
export { type CastOptions, cast } from "./operators/formats/cast.js";
export { type DequantizeOptions, dequantize, quantizationError } from "./operators/formats/dequantize.js";
export { type QuantizeOptions, quantize, type ScaleChoice } from "./operators/formats/quantize.js";
export { type ExpertLoadOptions, expertLoad } from "./operators/noise/expert_load.js";
export {
  type ExpertLoadBackwardOptions,
  type ExpertLoadGradients,
  expertLoadBackward,
  type GroupedExpertLoadGradients,
} from "./operators/noise/expert_load_backward.js";
export { type JitterOptions, jitter } from "./operators/noise/jitter.js";
export {
  type NoiseSource,
  type NoisyLogits,
  type NoisyLogitsOptions,
  noisyLogits,
} from "./operators/noise/noisy_logits.js";
export { type NoisyLogitsBackwardOptions, noisyLogitsBackward } from "./operators/noise/noisy_logits_backward.js";
export { type RandomOptions, random, type Seed } from "./operators/noise/random.js";
export type { CapacityAmount, CapacityRule, KeptWeights, Renormalize } from "./operators/routing/capacity.js";
export { type Capacity, type CapacitySize, expertCapacity } from "./operators/routing/capacity.js";
export {
  type ExpertChoice,
  type ExpertChoiceOptions,
  type ExpertChoiceRule,
  expertChoice,
} from "./operators/routing/expert_choice.js";
export { type ExpertChoiceBackwardOptions, expertChoiceBackward } from "./operators/routing/expert_choice_backward.js";
export { type ExpertSlotsOptions, expertSlots } from "./operators/routing/expert_slots.js";
export { type GatingOptions, gating, type Routing } from "./operators/routing/gating.js";
export { type GatingBackwardOptions, gatingBackward } from "./operators/routing/gating_backward.js";
export type { GatingRuleOptions, Groups, Normalize } from "./operators/routing/gating_options.js";
export { type GatingWeightsOptions, gatingWeights } from "./operators/routing/gating_weights.js";
export { type HierarchicalGatingOptions, hierarchicalGating } from "./operators/routing/hierarchical_gating.js";
export {
  type HierarchicalGatingBackwardOptions,
  type HierarchicalGatingGradients,
  hierarchicalGatingBackward,
} from "./operators/routing/hierarchical_gating_backward.js";
export { type LimitCapacityOptions, limitCapacity } from "./operators/routing/limit_capacity.js";
export {
  type LimitCapacityBackwardOptions,
  limitCapacityBackward,
} from "./operators/routing/limit_capacity_backward.js";
export { type LookUpExpertsOptions, lookUpExperts } from "./operators/routing/look_up_experts.js";
export { routerProjection } from "./operators/routing/router_projection.js";
export {
  type BiasedRouterProjectionGradients,
  type RouterProjectionBackwardOptions,
  type RouterProjectionGradients,
  routerProjectionBackward,
} from "./operators/routing/router_projection_backward.js";
export { type SharedSlotsOptions, sharedSlots } from "./operators/routing/shared_slots.js";
export {
  type SharedSlotsBackwardOptions,
  type SharedSlotsGradients,
  sharedSlotsBackward,
} from "./operators/routing/shared_slots_backward.js";
export { type SortedRows, sort } from "./operators/routing/sort.js";
export { accumulate, readTotals } from "./operators/statistics/accumulate.js";
export { type ColumnMeansOptions, columnMeans } from "./operators/statistics/column_means.js";
export { type ColumnMeansBackwardOptions, columnMeansBackward } from "./operators/statistics/column_means_backward.js";
export { type CvSquaredBackwardOptions, cvSquaredBackward } from "./operators/statistics/cv_squared_backward.js";
export {
  type ExpertTotals,
  type ExpertTotalsOptions,
  expertTotals,
  type WeightedExpertTotals,
} from "./operators/statistics/expert_totals.js";
export {
  type ExpertTotalsBackwardOptions,
  expertTotalsBackward,
} from "./operators/statistics/expert_totals_backward.js";
export { cvSquared, maximumViolation } from "./operators/statistics/imbalance.js";
export type { LoadNormalization } from "./operators/statistics/load_balancing_loss.js";
export { type LoadBalancingLossOptions, loadBalancingLoss } from "./operators/statistics/load_balancing_loss.js";
export {
  type LoadBalancingLossBackwardOptions,
  loadBalancingLossBackward,
} from "./operators/statistics/load_balancing_loss_backward.js";
export { type RouterScores, type RouterScoresOptions, routerScores } from "./operators/statistics/router_scores.js";
export {
  type RouterScoresBackwardOptions,
  type RouterScoresGradients,
  routerScoresBackward,
} from "./operators/statistics/router_scores_backward.js";
export type { RouterStatisticsOptions } from "./operators/statistics/router_statistics.js";
export { type RouterStatistics, routerStatistics } from "./operators/statistics/router_statistics.js";
export { updateSelectionBias } from "./operators/statistics/update_selection_bias.js";
export { zLoss } from "./operators/statistics/z_loss.js";
export { type ZLossBackwardOptions, zLossBackward } from "./operators/statistics/z_loss_backward.js";
export { AdamW, type AdamWOptions } from "./optimizers/adamw.js";
export { squaredNorm } from "./optimizers/gradient_norm.js";
export type { Optimizer, OptimizerOptions, OptimizerState } from "./optimizers/optimizer.js";
export type { Parameter } from "./optimizers/parameter.js";
export { SGD, type SGDOptions } from "./optimizers/sgd.js";
export { type HeatMapOptions, heatMap } from "./statistics/heat_map.js";
export type { ReportedRouter } from "./statistics/report_page/summaries.js";
export type { RouterHistory, RouterSummary } from "./statistics/router_history.js";
export { type RouterReportOptions, writeRouterReport } from "./statistics/router_report.js";
export { type RecordedRouting, RouterStats, type RouterStatsOptions } from "./statistics/router_stats.js";
