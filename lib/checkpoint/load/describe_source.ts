import type { TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { describeLayer, type MoeLayerDescription } from "../../layer/description/config.js";
import {
  isUniform,
  uniformStorage,
  type WeightDTypes,
  type WeightStorage,
  weightStorage,
} from "../../layer/description/storage.js";
import { quantizedFormats, withTokenFormat } from "../../layer/description/token_format.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { givenFormats, separatesGate } from "../../layer/weights/layer_weights.js";
import { checkedAt } from "../bad_checkpoint.js";
import type { SavedStorage } from "../layer_file/saved_layer.js";
import { type LayerSource, locateLayer, mapWeights, nameOf } from "../locate/locate_layer.js";
import type { LocatedWeight } from "../locate/located_weight.js";
import { type LoadedTokenFormat, resolveTokenFormat } from "../schemes/checkpoint_tokens.js";
import { Quantization } from "../schemes/quantization.js";

/** What of the options for loading decides what a layer computes. */
export interface DescriptionOptions {
  readonly dtype?: WeightFormatName | WeightDTypes | undefined;
  readonly tokenFormat?: LoadedTokenFormat | undefined;
}

/**
 * What a layer of a checkpoint computes, and how the device will store it.
 * @param quantization what the configuration says; default nothing.
 * @throws BAD_CHECKPOINT for a configuration that makes no sense, or if a weight whose dtype is needed is missing;
 * INVALID_ARGUMENT and UNSUPPORTED_OPERATION for a token format that does not go with it.
 */
export async function describeSource(
  source: LayerSource,
  { dtype, tokenFormat }: DescriptionOptions,
  quantization = new Quantization(),
): Promise<MoeLayerDescription> {
  const storage = await storageOf(source, dtype);
  const description = checkedAt(source.configPath, () => describeLayer(source.config, storage, source.bank));
  const quantized = quantizedFormats(description);
  const asSaved = source.saved !== undefined && (tokenFormat ?? "checkpoint") === "checkpoint";
  const tokens = asSaved
    ? savedTokens(source.saved, quantized)
    : resolveTokenFormat(tokenFormat ?? "none", quantization, quantized);
  return withTokenFormat(description, tokens);
}

/** As the layer did, unless it is now loaded in formats with which tokens are not rounded. */
function savedTokens({ tokenFormat }: SavedStorage, quantized: readonly WeightFormatName[]): TokenFormat {
  return quantized.length > 0 ? tokenFormat : "none";
}

async function storageOf(
  source: LayerSource,
  dtype: WeightFormatName | WeightDTypes | undefined,
): Promise<WeightStorage> {
  if (isUniform(dtype)) return uniformStorage(dtype);
  if (dtype === undefined && source.saved) return source.saved.weights;
  const located = await locateLayer({ ...source, bank: { first: source.bank?.first ?? 0, count: 1 } });
  const [expert] = located.experts as readonly [ExpertWeights<LocatedWeight, LocatedWeight>];
  const given = givenFormats(located, expert, ({ format }) => format);
  const { router, sharedGate } = given;
  // Devices hold the router and the shared expert's gate as floats.
  const floats = { router: floatFormat(router), sharedGate: sharedGate && floatFormat(sharedGate) };
  const separateGate =
    separatesGate(located, ({ changesInputs }) => changesInputs === true) || (await someChangeInputs(source));
  return { ...weightStorage(dtype, { ...given, ...floats }), separateGate };
}

/**
 * Whether the gates and ups of some experts, but not of all, have tensors that scale or order their inputs, as those of experts
 * without samples may lack them: the first expert then does not tell for the others.
 */
async function someChangeInputs(source: LayerSource): Promise<boolean> {
  const found = new Set<boolean>();
  await mapWeights(source, async ({ role, weight, index }) => {
    if (role === "experts.gate" || role === "experts.up") found.add(source.hasInputTensor(nameOf(weight, index)));
  });
  return found.size > 1;
}

function floatFormat(name: WeightFormatName): FloatDType {
  return isPlain(weightFormat(name)) ? (name as FloatDType) : "f32";
}
