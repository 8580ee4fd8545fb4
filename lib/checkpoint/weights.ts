import type { OffloadRule } from "../core/backend.js";
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { ExpertRange } from "../core/expert_range.js";
import type { Tensor } from "../core/tensor.js";
import type { TokenFormat } from "../core/token_format.js";
import type { WeightFormatName } from "../core/weight_format.js";
import { isPlain, weightFormat } from "../core/weight_formats.js";
import { describeLayer, type MoeLayerDescription } from "../layer/description/config.js";
import {
  isUniform,
  uniformStorage,
  type WeightDTypes,
  type WeightStorage,
  weightStorage,
} from "../layer/description/storage.js";
import { quantizedFormats, withTokenFormat } from "../layer/description/token_format.js";
import { LayerParts } from "../layer/layer_parts.js";
import type { OffloadOptions } from "../layer/offload.js";
import { type ExpertMatrix, type ExpertWeights, matricesOf } from "../layer/weights/expert_weights.js";
import { type ExtraRole, extraWeights } from "../layer/weights/extra_weights.js";
import { checkFormats, givenFormats, separatesGate } from "../layer/weights/layer_weights.js";
import { quantizing } from "../layer/weights/quantizing.js";
import type { StoredWeight } from "../layer/weights/weight_layout.js";
import type { QuantizeOptions } from "../operators/formats/quantize.js";
import { checkedAt } from "./bad_checkpoint.js";
import type { SavedStorage } from "./layer_file/saved_layer.js";
import { type LayerSource, type LocatedLayer, locateLayer, locateWeight, ofLayer } from "./locate.js";
import type { LocatedWeight } from "./located_weight.js";
import type { Progress, ReadWeightOptions } from "./matrix_reader.js";
import { type LoadedTokenFormat, resolveTokenFormat } from "./schemes/checkpoint_tokens.js";
import { Quantization } from "./schemes/quantization.js";
import { bytesOfAll, type LoadingStep, WeightReader } from "./weight_reader.js";

/** How weights are stored on the device when they are loaded, and which. */
export interface WeightOptions {
  /**
   * How the weights are stored on the device: a dtype for all, a quantised format for the experts' matrices (see
   * {@link WeightFormatName}), or one for each role. Default: the dtype of the router's weight in the checkpoint; but if
   * an expert's matrix is quantised, or is to be, every role keeps its own. `{}` keeps every role as it is in the
   * checkpoint; so does the default for a layer that MoeLayer.save wrote.
   */
  dtype?: WeightFormatName | WeightDTypes | undefined;
  /** How matrices are quantised that `dtype` asks to be; see {@link quantize}. */
  quantize?: QuantizeOptions | undefined;
  /**
   * Hold only these experts, and read only their bytes. `forward` then returns their share of the output, weighted by
   * the whole layer's routing, so the outputs of a layer's banks add up to the layer's output. The shared expert
   * belongs to the bank with `first: 0`, and so do `identityExperts`. Default: all experts.
   */
  bank?: ExpertRange | undefined;
  /**
   * Round tokens to 8 bits where they are multiplied by quantised weights; see {@link TokenFormat}. `checkpoint` does what
   * the checkpoint's configuration says: `input_activations` of compressed-tensors, `activation_scheme` of fp8,
   * `quant_algo` of ModelOpt, `input_tensors` of Quark, `act_bits` of AutoRound; none if it says nothing. Default none; of
   * a layer that MoeLayer.save wrote, what it did.
   */
  tokenFormat?: TokenFormat | "checkpoint" | undefined;
  /**
   * Keep only some of the experts in the device's memory. On `cpu` the others are in the mapped cache file, so `cache` is
   * needed. Default: all are there.
   */
  offload?: OffloadOptions | undefined;
  /** Called while weights are read. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

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
  const quantized = quantizedFormats(description.formats);
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
  const [expert] = located.experts as readonly [LocatedExpert];
  const given = givenFormats(located, expert, ({ format }) => format);
  const { router, sharedGate } = given;
  // Devices hold the router and the shared expert's gate as floats.
  const floats = { router: floatFormat(router), sharedGate: sharedGate && floatFormat(sharedGate) };
  const separateGate = separatesGate(located, ({ changesInputs }) => changesInputs === true);
  const keepsOwn = dtype === undefined && matricesOf(expert, located.shared).some(({ dequantized }) => dequantized);
  return { ...weightStorage(keepsOwn ? {} : dtype, { ...given, ...floats }), separateGate };
}

function floatFormat(name: WeightFormatName): FloatDType {
  return isPlain(weightFormat(name)) ? (name as FloatDType) : "f32";
}

type LocatedExpert = ExpertWeights<LocatedWeight, LocatedWeight>;

/** What of the options for loading decides how weights are read. */
export interface LoadWeightOptions extends ReadWeightOptions {
  readonly dtype?: WeightFormatName | WeightDTypes | undefined;
  readonly quantize?: QuantizeOptions | undefined;
}

/**
 * Builds a layer on `device`, expert by expert: the bytes of an expert are read into device tensors, repacked and freed
 * while those of the next one are read. Quantised ones are converted in between. All tensors are looked up first, so a bad
 * checkpoint fails before the layer's memory is allocated.
 * @throws BAD_CHECKPOINT as a Locator does, or for codes and scales that make no sense; UNSUPPORTED_OPERATION if experts
 * are stored in different formats; the errors of MoeLayer.create.
 */
export async function loadWeights(
  source: LayerSource,
  device: Device,
  description: MoeLayerDescription,
  { dtype, quantize, ...options }: LoadWeightOptions,
  offload?: OffloadRule,
): Promise<LayerParts> {
  const asked = quantizing(dtype, quantize);
  const located = await locateLayer(source);
  checkFormats(located, description, dtype, ({ format }) => format);
  const steps = loadingSteps(source, located);
  const bytesTotal = steps.reduce((total, { weights }) => total + bytesOfAll(weights), 0);
  const layer = new LayerParts(device, description, { quantizing: asked, offload });
  const reader = new WeightReader(layer, bytesTotal, options);
  try {
    await reader.run(steps);
    return layer;
  } catch (error) {
    layer.dispose();
    throw error;
  }
}

/**
 * Sets what of a layer's weights is not part of a cache of packed weights: what devices do not hold and, of a layer with
 * `latent`, all but the routed experts.
 */
export async function loadUncached(
  source: LayerSource,
  layer: LayerParts,
  options: Pick<ReadWeightOptions, "signal">,
): Promise<void> {
  const run = async (steps: readonly LoadingStep[]) => {
    const total = steps.reduce((sum, { weights }) => sum + bytesOfAll(weights), 0);
    await new WeightReader(layer, total, options).run(steps);
  };
  if (source.config.latent !== undefined) {
    const located = await locateLayer({ ...source, bank: { first: source.bank?.first ?? 0, count: 0 } });
    await run(loadingSteps(source, located));
    return;
  }
  const located: Record<string, LocatedWeight> = {};
  for (const { role, shape, limit } of extraWeights(source.config)) {
    const weight = source.tensors[role];
    if (weight) located[role] = await locateWeight(source, ofLayer(weight, role, shape, limit));
  }
  await run(extraSteps(source, located));
}

type LocatedExtras = { [Role in ExtraRole]?: LocatedWeight | undefined };

function loadingSteps(source: LayerSource, located: LocatedLayer): readonly LoadingStep[] {
  const { router, routerBias, selectionBias, experts, shared, sharedGate, sharedGateBias } = located;
  const steps: LoadingStep[] = [
    {
      weights: { router, ...(routerBias && { routerBias }) },
      set: (layer, { router, routerBias }) =>
        layer.router.weights.set(router as ExpertMatrix, routerBias as StoredWeight | undefined),
    },
    ...experts.map(
      (expert, index): LoadingStep => ({
        weights: present(expert),
        set: (layer, weights) => layer.bank.setExpert(index, weights as unknown as ExpertWeights),
      }),
    ),
  ];
  if (selectionBias) {
    steps.push({
      weights: { selectionBias },
      set: (layer, { selectionBias }) => layer.router.weights.setSelectionBias(selectionBias as StoredWeight),
    });
  }
  if (shared) {
    const width = source.config.sharedExpert?.intermediateSize as number;
    steps.push({
      weights: present(shared),
      set: (layer, weights) => layer.bank.setShared(weights as unknown as ExpertWeights, width),
    });
  }
  if (sharedGate) {
    steps.push({
      weights: { sharedGate, ...(sharedGateBias && { sharedGateBias }) },
      set: (layer, { sharedGate, sharedGateBias }) =>
        layer.bank.setSharedGate(sharedGate as ExpertMatrix, sharedGateBias as StoredWeight | undefined),
    });
  }
  return [...steps, ...extraSteps(source, located)];
}

function extraSteps({ config }: LayerSource, located: LocatedExtras): readonly LoadingStep[] {
  return extraWeights(config).flatMap(({ role }): LoadingStep[] => {
    const weight = located[role];
    if (weight === undefined) return [];
    return [
      {
        weights: { [role]: weight },
        set: (layer, weights) => {
          if (role !== "expertTable") return layer.setExtra(role, weights[role] as ExpertMatrix);
          const { tensor } = weights[role] as StoredWeight;
          layer.router.weights.setExpertTable(tensor as Tensor as Tensor<"i32">);
        },
      },
    ];
  });
}

/** The weights that an expert has. */
function present(expert: ExpertWeights<LocatedWeight, LocatedWeight>): Readonly<Record<string, LocatedWeight>> {
  const has = (entry: [string, LocatedWeight | undefined]): entry is [string, LocatedWeight] => entry[1] !== undefined;
  return Object.fromEntries(Object.entries(expert).filter(has));
}
