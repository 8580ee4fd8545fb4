import { dbrx } from "./dbrx.js";
import { deepseekV2 } from "./deepseek_v2.js";
import { deepseekV3, glm4Moe, kimiK2 } from "./deepseek_v3.js";
import { ernie45Moe } from "./ernie4_5_moe.js";
import type { Family } from "./family.js";
import { gptOss } from "./gpt_oss.js";
import { graniteMoe } from "./granitemoe.js";
import { hunyuanV1Moe } from "./hunyuan_v1_moe.js";
import { jamba } from "./jamba.js";
import { llama4Text } from "./llama4.js";
import { minimax, minimaxM1, minimaxText01 } from "./minimax.js";
import { mixtral } from "./mixtral.js";
import { nllbMoe } from "./nllb_moe.js";
import { olmoe } from "./olmoe.js";
import { openMoe } from "./openmoe.js";
import { phimoe } from "./phimoe.js";
import { qwen2Moe } from "./qwen2_moe.js";
import { qwen3Moe } from "./qwen3_moe.js";
import { switchTransformers } from "./switch_transformers.js";

/** Every known family by its `model_type`. */
export const families: ReadonlyMap<string, Family> = new Map(
  [
    mixtral,
    qwen2Moe,
    qwen3Moe,
    olmoe,
    deepseekV2,
    deepseekV3,
    kimiK2,
    gptOss,
    llama4Text,
    glm4Moe,
    phimoe,
    dbrx,
    jamba,
    graniteMoe,
    ernie45Moe,
    hunyuanV1Moe,
    minimax,
    minimaxText01,
    minimaxM1,
    switchTransformers,
    openMoe,
    nllbMoe,
  ].map((family) => [family.modelType, family]),
);
