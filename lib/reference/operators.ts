import type { OperatorName } from "../core/operators/table.js";
import type { Implementation } from "./core/implementation.js";
import { runActivate } from "./experts/activation.js";
import { runActivationBackward } from "./experts/activation_backward.js";
import { runCombine } from "./experts/combine.js";
import { runCombineBackward } from "./experts/combine_backward.js";
import { runCopyMatrix } from "./experts/copy_matrix.js";
import { runGroupedGemm } from "./experts/grouped_gemm.js";
import { runGroupedGemmWeightBackward } from "./experts/grouped_gemm_weight_backward.js";
import { runPermute, runUnpermute } from "./experts/permute.js";
import { runRmsNorm, runRmsNormBackward } from "./experts/rms_norm.js";
import { runDequantize, runQuantizationError } from "./formats/dequantize.js";
import { runQuantize } from "./formats/quantize.js";
import { runExpertLoad, runNoisyLogits } from "./noise/noisy_top_k.js";
import { runExpertLoadBackward, runNoisyLogitsBackward } from "./noise/noisy_top_k_backward.js";
import { runJitter, runRandom } from "./noise/random.js";
import { runAdamW, runSgd, runSumOfSquares } from "./optimizers/optimizers.js";
import { runExpertSlots, runLimitCapacity } from "./routing/capacity.js";
import { runExpertChoice } from "./routing/expert_choice.js";
import { runGating } from "./routing/gating.js";
import { runGatingBackward } from "./routing/gating_backward.js";
import { runGatingWeights } from "./routing/gating_weights.js";
import { runHierarchicalGating } from "./routing/hierarchical_gating.js";
import { runHierarchicalGatingBackward } from "./routing/hierarchical_gating_backward.js";
import { runLimitCapacityBackward } from "./routing/limit_capacity_backward.js";
import { runLookUpExperts } from "./routing/look_up_experts.js";
import { runRouterProjection } from "./routing/router_projection.js";
import { runRouterProjectionBackward } from "./routing/router_projection_backward.js";
import { runSharedSlots, runSharedSlotsBackward } from "./routing/shared_slots.js";
import { runSort } from "./routing/sort.js";
import { runAccumulate } from "./statistics/accumulate.js";
import { runColumnMeans } from "./statistics/column_means.js";
import { runColumnMeansBackward } from "./statistics/column_means_backward.js";
import { runExpertTotals } from "./statistics/expert_totals.js";
import { runExpertTotalsBackward } from "./statistics/expert_totals_backward.js";
import { runBalanceLoss, runImbalance, runUpdateSelectionBias } from "./statistics/load_balance.js";
import { runBalanceLossBackward, runCvSquaredBackward } from "./statistics/load_balance_backward.js";
import { runRouterScores } from "./statistics/router_scores.js";
import { runRouterScoresBackward } from "./statistics/router_scores_backward.js";

/** Every operator by its formula. */
export const implementations: { readonly [Name in OperatorName]: Implementation<Name> } = {
  routerProjection: runRouterProjection,
  routerProjectionBackward: runRouterProjectionBackward,
  gating: runGating,
  gatingWeights: runGatingWeights,
  gatingBackward: runGatingBackward,
  hierarchicalGating: runHierarchicalGating,
  hierarchicalGatingBackward: runHierarchicalGatingBackward,
  expertChoice: runExpertChoice,
  lookUpExperts: runLookUpExperts,
  sharedSlots: runSharedSlots,
  sharedSlotsBackward: runSharedSlotsBackward,
  sort: runSort,
  limitCapacity: runLimitCapacity,
  limitCapacityBackward: runLimitCapacityBackward,
  expertSlots: runExpertSlots,
  permute: runPermute,
  unpermute: runUnpermute,
  groupedGemm: runGroupedGemm,
  activate: runActivate,
  activationBackward: runActivationBackward,
  groupedGemmWeightBackward: runGroupedGemmWeightBackward,
  combine: runCombine,
  combineBackward: runCombineBackward,
  copyMatrix: runCopyMatrix,
  rmsNorm: runRmsNorm,
  rmsNormBackward: runRmsNormBackward,
  quantize: runQuantize,
  dequantize: runDequantize,
  quantizationError: runQuantizationError,
  routerScores: runRouterScores,
  routerScoresBackward: runRouterScoresBackward,
  expertTotals: runExpertTotals,
  expertTotalsBackward: runExpertTotalsBackward,
  columnMeans: runColumnMeans,
  columnMeansBackward: runColumnMeansBackward,
  balanceLoss: runBalanceLoss,
  balanceLossBackward: runBalanceLossBackward,
  imbalance: runImbalance,
  cvSquaredBackward: runCvSquaredBackward,
  updateSelectionBias: runUpdateSelectionBias,
  accumulate: runAccumulate,
  random: runRandom,
  jitter: runJitter,
  noisyLogits: runNoisyLogits,
  noisyLogitsBackward: runNoisyLogitsBackward,
  expertLoad: runExpertLoad,
  expertLoadBackward: runExpertLoadBackward,
  sumOfSquares: runSumOfSquares,
  adamW: runAdamW,
  sgd: runSgd,
};
