import { activationCases } from "./activation_cases.js";
import { expertSlotsCases, limitCapacityCases } from "./capacity_cases.js";
import type { Case } from "./case.js";
import { copyMatrixCases } from "./copy_matrix_cases.js";
import { expertChoiceCases } from "./expert_choice_cases.js";
import { dequantizeCases, quantizationErrorCases, quantizeCases } from "./formats_cases.js";
import { gatingBackwardCases } from "./gating_backward_cases.js";
import { gatingCases } from "./gating_cases.js";
import { gatingWeightsCases } from "./gating_weights_cases.js";
import { groupedGemmBackwardCases } from "./grouped_gemm_backward_cases.js";
import { groupedGemmCases } from "./grouped_gemm_cases.js";
import { hierarchicalGatingBackwardCases } from "./hierarchical_gating_backward_cases.js";
import { hierarchicalGatingCases } from "./hierarchical_gating_cases.js";
import { layerBackwardCases } from "./layer_backward_cases.js";
import { layerCases } from "./layer_cases.js";
import { layerLatentCases } from "./layer_latent_cases.js";
import { layerRoutingCases } from "./layer_routing_cases.js";
import { limitCapacityBackwardCases } from "./limit_capacity_backward_cases.js";
import { lookUpExpertsCases } from "./look_up_experts_cases.js";
import { noiseBackwardCases } from "./noise_backward_cases.js";
import { expertLoadCases, jitterCases, noisyLogitsCases, randomCases } from "./noise_cases.js";
import { normCases } from "./norm_cases.js";
import { optimizerCases } from "./optimizer_cases.js";
import { optimizerStepCases } from "./optimizer_step_cases.js";
import { quantizedGemmCases, quantizedLayerCases } from "./quantized_cases.js";
import { routerProjectionBackwardCases } from "./router_projection_backward_cases.js";
import { routerProjectionCases } from "./router_projection_cases.js";
import { combineBackwardCases, combineCases, permuteBackwardCases, permuteCases, unpermuteCases } from "./row_cases.js";
import { sharedSlotsCases } from "./shared_slots_cases.js";
import { sortCases } from "./sort_cases.js";
import { statisticsBackwardCases } from "./statistics_backward_cases.js";
import { statisticsCases } from "./statistics_cases.js";
import { tokenGemmCases, tokenLayerCases } from "./token_cases.js";

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
