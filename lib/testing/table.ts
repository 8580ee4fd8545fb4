import type { Case } from "./case.js";
import { activationCases } from "./cases/activation.js";
import { expertSlotsCases, limitCapacityCases } from "./cases/capacity.js";
import { copyMatrixCases } from "./cases/copy_matrix.js";
import { expertChoiceCases } from "./cases/expert_choice.js";
import { dequantizeCases, quantizationErrorCases, quantizeCases } from "./cases/formats.js";
import { gatingCases } from "./cases/gating.js";
import { gatingBackwardCases } from "./cases/gating_backward.js";
import { gatingWeightsCases } from "./cases/gating_weights.js";
import { groupedGemmCases } from "./cases/grouped_gemm.js";
import { groupedGemmBackwardCases } from "./cases/grouped_gemm_backward.js";
import { hierarchicalGatingCases } from "./cases/hierarchical_gating.js";
import { hierarchicalGatingBackwardCases } from "./cases/hierarchical_gating_backward.js";
import { layerCases } from "./cases/layer.js";
import { layerBackwardCases } from "./cases/layer_backward.js";
import { layerLatentCases } from "./cases/layer_latent.js";
import { layerRoutingCases } from "./cases/layer_routing.js";
import { limitCapacityBackwardCases } from "./cases/limit_capacity_backward.js";
import { lookUpExpertsCases } from "./cases/look_up_experts.js";
import { expertLoadCases, jitterCases, noisyLogitsCases, randomCases } from "./cases/noise.js";
import { noiseBackwardCases } from "./cases/noise_backward.js";
import { normCases } from "./cases/norm.js";
import { optimizerStepCases } from "./cases/optimizer_steps.js";
import { optimizerCases } from "./cases/optimizers.js";
import { quantizedGemmCases, quantizedLayerCases } from "./cases/quantized_weights.js";
import { routerProjectionCases } from "./cases/router_projection.js";
import { routerProjectionBackwardCases } from "./cases/router_projection_backward.js";
import {
  combineBackwardCases,
  combineCases,
  permuteBackwardCases,
  permuteCases,
  unpermuteCases,
} from "./cases/rows.js";
import { sharedSlotsCases } from "./cases/shared_slots.js";
import { sortCases } from "./cases/sort.js";
import { statisticsCases } from "./cases/statistics.js";
import { statisticsBackwardCases } from "./cases/statistics_backward.js";
import { tokenGemmCases, tokenLayerCases } from "./cases/token_formats.js";

/** The one table of cases that every device must pass. */
export const cases: readonly Case[] = [
  ...routerProjectionCases,
  ...routerProjectionBackwardCases,
  ...gatingCases,
  ...gatingWeightsCases,
  ...gatingBackwardCases,
  ...limitCapacityCases,
  ...limitCapacityBackwardCases,
  ...expertSlotsCases,
  ...expertChoiceCases,
  ...lookUpExpertsCases,
  ...hierarchicalGatingCases,
  ...hierarchicalGatingBackwardCases,
  ...sharedSlotsCases,
  ...sortCases,
  ...permuteCases,
  ...unpermuteCases,
  ...groupedGemmCases,
  ...groupedGemmBackwardCases,
  ...quantizedGemmCases,
  ...tokenGemmCases,
  ...activationCases,
  ...combineCases,
  ...combineBackwardCases,
  ...permuteBackwardCases,
  ...copyMatrixCases,
  ...normCases,
  ...quantizeCases,
  ...dequantizeCases,
  ...quantizationErrorCases,
  ...statisticsCases,
  ...statisticsBackwardCases,
  ...randomCases,
  ...jitterCases,
  ...noisyLogitsCases,
  ...expertLoadCases,
  ...noiseBackwardCases,
  ...optimizerCases,
  ...optimizerStepCases,
  ...layerCases,
  ...layerBackwardCases,
  ...layerRoutingCases,
  ...layerLatentCases,
  ...quantizedLayerCases,
  ...tokenLayerCases,
];
