import { invalidArgument, unexpected } from "../../core/errors.js";
import { boolean, callback, type Fields, integer, list, object, optional, text } from "../../core/input/options.js";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import { layerConfig, type MoeLayerConfig } from "../../layer/description/config.js";
import { checkTensorNames, layerTensorNames } from "../tensor_names.js";
import { afmoe } from "./afmoe.js";
import { aliceAi } from "./alice_ai.js";
import { arctic } from "./arctic.js";
import { ariaText } from "./aria.js";
import {
  bailingHybrid,
  bailingMoe,
  bailingMoeLinear,
  bailingMoeV2,
  llada2Moe,
  param2Moe,
  sarvamMla,
  sarvamMoe,
} from "./bailing_moe.js";
import { cohere2Moe } from "./cohere2_moe.js";
import { dbrx } from "./dbrx.js";
import { deepseek, deepseekOcr2, deepseekV2 } from "./deepseek_v2.js";
import {
  axk1,
  axk2,
  deepseekV3,
  deepseekV32,
  dots1,
  dots3Note,
  gigachat35,
  glm4Moe,
  glm4MoeLite,
  glm4vMoe,
  glm5Next,
  glmMoeDsa,
  hyV4,
  kimiK2,
  mimoV2,
  mimoV2Flash,
  solarOpen,
  solarOpen2,
  xing40,
} from "./deepseek_v3.js";
import { deepseekV4, deepseekV41 } from "./deepseek_v4.js";
import { ernie45Moe } from "./ernie4_5_moe.js";
import { ernie45MoeVl, ernie45VlMoe } from "./ernie4_5_vl_moe.js";
import { exaoneMoe } from "./exaone_moe.js";
import { type Family, type ModelFamily, maximumLayers } from "./family.js";
import { diffusionGemmaText, gemma4Text } from "./gemma4.js";
import { gptOss, openaiPrivacyFilter } from "./gpt_oss.js";
import { graniteMoe, graniteMoeHybrid, graniteMoeShared, graniteMoeSwa } from "./granitemoe.js";
import { groveMoe } from "./grove_moe.js";
import { hunyuan } from "./hunyuan.js";
import { hunyuanImage3 } from "./hunyuan_image_3.js";
import { hunyuanV1Moe } from "./hunyuan_v1_moe.js";
import { hyV3 } from "./hy_v3.js";
import { inkling } from "./inkling.js";
import { jamba } from "./jamba.js";
import { jetMoe } from "./jetmoe.js";
import { k2Horizon } from "./k2_horizon.js";
import { kimiLinear } from "./kimi_linear.js";
import { klear } from "./klear.js";
import { kolibri1 } from "./kolibri1.js";
import { laguna } from "./laguna.js";
import { lfm2Moe } from "./lfm2_moe.js";
import { llama4Text } from "./llama4.js";
import { longcatFlash, longcatFlashNgram, longcatNext } from "./longcat_flash.js";
import { minicpm } from "./minicpm.js";
import { minimax, minimaxM1, minimaxText01 } from "./minimax.js";
import { minimaxM2 } from "./minimax_m2.js";
import { minimaxM3 } from "./minimax_m3.js";
import { mistral4 } from "./mistral4.js";
import { mixtral } from "./mixtral.js";
import { moondream3 } from "./moondream3.js";
import { nemotronH, nemotronHPuzzle } from "./nemotron_h.js";
import { nllbMoe } from "./nllb_moe.js";
import { flexOlmo, olmoe } from "./olmoe.js";
import { openMoe } from "./openmoe.js";
import { openPanguV2, panguProMoeV2, panguUltraMoe } from "./pangu.js";
import { phimoe } from "./phimoe.js";
import { berryLm, qwen2Moe, qwen3Next, qwen4Exp, qwen35Moe, qwen38FlashNext } from "./qwen2_moe.js";
import { mellum, qwen3Moe, qwen3OmniMoe, qwen3VlMoe } from "./qwen3_moe.js";
import { smallThinker } from "./smallthinker.js";
import { step3p5, step3Text, step4 } from "./step3p5.js";
import { switchTransformers } from "./switch_transformers.js";

/** Every known family by its `model_type`: those of this package, then those that were registered. */
const known = new Map<string, Family>(
  [
    mixtral,
    arctic,
    qwen2Moe,
    qwen3Moe,
    qwen3Next,
    qwen35Moe,
    qwen4Exp,
    qwen38FlashNext,
    berryLm,
    aliceAi,
    qwen3VlMoe,
    qwen3OmniMoe,
    mellum,
    groveMoe,
    olmoe,
    flexOlmo,
    deepseek,
    deepseekV2,
    deepseekOcr2,
    deepseekV3,
    deepseekV32,
    deepseekV4,
    deepseekV41,
    kimiK2,
    kimiLinear,
    mistral4,
    mimoV2Flash,
    mimoV2,
    gptOss,
    openaiPrivacyFilter,
    gemma4Text,
    diffusionGemmaText,
    llama4Text,
    glm4Moe,
    glm4vMoe,
    glm4MoeLite,
    glmMoeDsa,
    glm5Next,
    gigachat35,
    dots1,
    dots3Note,
    solarOpen,
    solarOpen2,
    xing40,
    axk1,
    axk2,
    afmoe,
    exaoneMoe,
    hyV3,
    hyV4,
    laguna,
    inkling,
    step3Text,
    step3p5,
    step4,
    bailingMoe,
    bailingMoeV2,
    bailingMoeLinear,
    bailingHybrid,
    llada2Moe,
    sarvamMoe,
    sarvamMla,
    param2Moe,
    panguUltraMoe,
    panguProMoeV2,
    openPanguV2,
    klear,
    k2Horizon,
    kolibri1,
    smallThinker,
    lfm2Moe,
    nemotronH,
    nemotronHPuzzle,
    phimoe,
    dbrx,
    jamba,
    jetMoe,
    graniteMoe,
    graniteMoeShared,
    graniteMoeSwa,
    graniteMoeHybrid,
    ernie45Moe,
    ernie45VlMoe,
    ernie45MoeVl,
    hunyuan,
    hunyuanV1Moe,
    hunyuanImage3,
    minicpm,
    minimax,
    minimaxText01,
    minimaxM1,
    minimaxM2,
    minimaxM3,
    longcatFlash,
    longcatFlashNgram,
    longcatNext,
    moondream3,
    ariaText,
    cohere2Moe,
    switchTransformers,
    openMoe,
    nllbMoe,
  ].map((family) => [family.modelType, family]),
);

/** Every known family by its `model_type`. */
export const families: ReadonlyMap<string, Family> = known;

const familyOption = object(
  {
    modelType: text,
    architecture: optional(text),
    recognizes: optional(callback<NonNullable<ModelFamily["recognizes"]>>()),
    layerCount: callback<ModelFamily["layerCount"]>(),
    numbering: optional(text),
    hasExperts: optional(callback<NonNullable<ModelFamily["hasExperts"]>>()),
    config: callback<ModelFamily["config"]>(),
    prefix: optional(callback<NonNullable<ModelFamily["prefix"]>>()),
    tensors: callback<ModelFamily["tensors"]>(),
  } satisfies Fields<ModelFamily>,
  "{ modelType, layerCount, config, tensors }",
);

/** Its functions as methods of `owner`, which they may read as `this`. */
function boundTo<Members extends object>(owner: unknown, members: Members): Members {
  const bound = Object.entries(members).map(([name, member]) => {
    return [name, typeof member === "function" ? member.bind(owner) : member] as const;
  });
  return Object.fromEntries(bound) as Members;
}

/**
 * Makes a family of checkpoints known to {@link MoeLayer.load}, {@link openModel} and all that use them, in this process
 * and thread. Its functions are called as its methods, with the fields of config.json ({@link ConfigFields}), whenever a
 * model of that `model_type` is opened.
 *
 *     registerFamily({
 *       modelType: "my_moe",
 *       layerCount: (fields) => fields.integer("num_hidden_layers", undefined),
 *       config: (fields) => ({
 *         hiddenSize: fields.integer("hidden_size", undefined),
 *         intermediateSize: fields.integer("moe_intermediate_size", undefined),
 *         numExperts: fields.integer("num_experts", undefined),
 *         topK: fields.integer("num_experts_per_tok", undefined),
 *         normalize: true,
 *       }),
 *       tensors: (prefix) => [{
 *         router: `${prefix}.moe.router.weight`,
 *         experts: {
 *           gate: `${prefix}.moe.experts.{e}.w1.weight`,
 *           up: `${prefix}.moe.experts.{e}.w3.weight`,
 *           down: `${prefix}.moe.experts.{e}.w2.weight`,
 *         },
 *       }],
 *     });
 *
 * @throws INVALID_ARGUMENT, also for a `modelType` that is known already.
 */
export function registerFamily(family: ModelFamily): void {
  const read = boundTo(family, familyOption(family, "family"));
  const { modelType } = read;
  if (known.has(modelType)) throw invalidArgument("family.modelType", "one that is not known yet", modelType);
  const resultOf = (method: keyof ModelFamily) => `${method}() of ${modelType}`;
  const config: Family["config"] = (fields, layer) =>
    layerConfig(read.config(fields, layer), resultOf("config")) as MoeLayerConfig;
  known.set(modelType, {
    ...withoutUndefined(read),
    ...(read.recognizes && {
      recognizes: (fields) => boolean(read.recognizes?.(fields), resultOf("recognizes")),
    }),
    layerCount: (fields) => integer(1, maximumLayers)(read.layerCount(fields), resultOf("layerCount")),
    ...(read.hasExperts && {
      hasExperts: (fields, layer) => boolean(read.hasExperts?.(fields, layer), resultOf("hasExperts")),
    }),
    config,
    ...(read.prefix && {
      prefix: (fields, layer) => text(read.prefix?.(fields, layer), resultOf("prefix")),
    }),
    tensors: (prefix, fields, layer) => {
      const [formula, place] = [config(fields, layer), resultOf("tensors")];
      const schemes = list(layerTensorNames)(read.tensors(prefix, fields, layer), place);
      if (schemes.length === 0) throw unexpected(place, "the names of a layer's tensors", "an empty list");
      return schemes.map((tensors, index) => {
        checkTensorNames(tensors, formula, `${place}[${index}]`);
        return tensors;
      });
    },
  });
}
