import type { OffloadRule } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import type { WeightDTypes } from "../../layer/description/storage.js";
import { LayerParts } from "../../layer/layer_parts.js";
import type { ExpertMatrix, ExpertWeights } from "../../layer/weights/expert_weights.js";
import { type ExtraRole, extraWeights } from "../../layer/weights/extra_weights.js";
import { checkFormats } from "../../layer/weights/layer_weights.js";
import { quantizing } from "../../layer/weights/quantizing.js";
import type { StoredWeight } from "../../layer/weights/weight_layout.js";
import type { QuantizeOptions } from "../../operators/formats/quantize.js";
import { type LayerSource, type LocatedLayer, locateLayer, locateWeight, ofLayer } from "../locate/locate_layer.js";
import type { LocatedWeight } from "../locate/located_weight.js";
import type { ReadWeightOptions } from "./matrix_reader.js";
import { bytesOfAll, type LoadingStep, WeightReader } from "./weight_reader.js";

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
