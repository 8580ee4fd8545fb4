import type { ExpertRange } from "../core/backend.js";
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { Tensor } from "../core/tensor.js";
import { describeLayer, type MoeLayerDescription } from "../layer/description/config.js";
import { uniformStorage, type WeightDTypes, type WeightStorage, weightStorage } from "../layer/description/storage.js";
import { LayerParts } from "../layer/layer_parts.js";
import type { ExpertWeights } from "../layer/weights/expert_weights.js";
import { extraRouters } from "../layer/weights/extra_routers.js";
import { givenFormats } from "../layer/weights/layer_weights.js";
import type { StoredWeight } from "../layer/weights/weight_layout.js";
import { checkedAt } from "./bad_checkpoint.js";
import { type LayerSource, type LocatedLayer, type LocatedWeight, locateLayer, locateRouter } from "./locate.js";

/** Progress of reading a layer's weights. */
export interface Progress {
  bytesRead: number;
  bytesTotal: number;
}

export interface WeightOptions {
  /**
   * Storage dtype of the weights on the device: one for all, or one per role. Default: all have the dtype of the
   * router's weight in the checkpoint; `{}` keeps every role in the checkpoint's dtype.
   */
  dtype?: FloatDType | WeightDTypes;
  /**
   * Hold only these experts, and read only their bytes. `forward` then returns their share of the output, weighted by
   * the whole layer's routing, so the outputs of a layer's banks add up to the layer's output. The shared expert
   * belongs to the bank with `first: 0`. Default: all experts.
   */
  bank?: ExpertRange;
  /** Called while weights are read. */
  onProgress?: (progress: Progress) => void;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** The options for reading weights, once checked. */
export type ReadWeightOptions = { readonly [Name in "onProgress" | "signal"]?: WeightOptions[Name] | undefined };

/**
 * What a layer of a checkpoint computes, and how the device will store it.
 * @throws BAD_CHECKPOINT for a configuration that makes no sense, or if a weight whose dtype is needed is missing.
 */
export async function describeSource(
  source: LayerSource,
  dtype: FloatDType | WeightDTypes | undefined,
): Promise<MoeLayerDescription> {
  const storage = await storageOf(source, dtype);
  return checkedAt(source.configPath, () => describeLayer(source.config, storage, source.bank));
}

async function storageOf(source: LayerSource, dtype: FloatDType | WeightDTypes | undefined): Promise<WeightStorage> {
  if (typeof dtype === "string") return uniformStorage(dtype);
  if (dtype === undefined) return uniformStorage((await locateRouter(source)).dtype);
  const located = await locateLayer({ ...source, bank: { first: source.bank?.first ?? 0, count: 1 } });
  const [expert] = located.experts as readonly [ExpertWeights<LocatedWeight, LocatedWeight>];
  return weightStorage(
    dtype,
    givenFormats(located, expert, (weight) => weight.dtype),
  );
}

/**
 * Builds a layer on `device`, expert by expert: the bytes of an expert are read into device tensors, repacked and freed
 * before the next expert is read. All tensors are looked up first, so a bad checkpoint fails before the layer's memory
 * is allocated.
 * @throws BAD_CHECKPOINT for a missing tensor, a shape that does not match the configuration, or a dtype other than
 * F32, F16 or BF16; the errors of MoeLayer.create.
 */
export async function loadWeights(
  source: LayerSource,
  device: Device,
  description: MoeLayerDescription,
  options: ReadWeightOptions,
): Promise<LayerParts> {
  const steps = loadingSteps(source, await locateLayer(source));
  const reader = new WeightReader(device, steps, options);
  const layer = new LayerParts(device, description);
  try {
    for (const step of steps) await reader.run(step, layer);
    return layer;
  } catch (error) {
    layer.dispose();
    throw error;
  }
}

/** Weights that are on the device at the same time. */
interface LoadingStep {
  readonly weights: Readonly<Record<string, LocatedWeight>>;
  set(layer: LayerParts, weights: Readonly<Record<string, StoredWeight>>): void;
}

function loadingSteps({ config }: LayerSource, located: LocatedLayer): readonly LoadingStep[] {
  const { router, routerBias, selectionBias, experts, shared, sharedGate, sharedGateBias } = located;
  const steps: LoadingStep[] = [
    {
      weights: { router, ...(routerBias && { routerBias }) },
      set: (layer, { router, routerBias }) => layer.router.weights.set(router as StoredWeight, routerBias),
    },
    ...experts.map(
      (expert, index): LoadingStep => ({
        weights: { ...expert },
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
    const width = config.sharedExpert?.intermediateSize as number;
    steps.push({
      weights: { ...shared },
      set: (layer, weights) => layer.bank.setShared(weights as unknown as ExpertWeights, width),
    });
  }
  if (sharedGate) {
    steps.push({
      weights: { sharedGate, ...(sharedGateBias && { sharedGateBias }) },
      set: (layer, { sharedGate, sharedGateBias }) =>
        layer.bank.setSharedGate(sharedGate as StoredWeight, sharedGateBias),
    });
  }
  for (const { role } of extraRouters(config)) {
    const weight = located[role];
    if (weight === undefined) continue;
    steps.push({
      weights: { [role]: weight },
      set: (layer, weights) => layer.router.weights.setExtra(role, weights[role] as StoredWeight),
    });
  }
  return steps;
}

/** A step's tensors without duplicates: gate and up may be parts of the same tensor. */
function distinct(step: LoadingStep): readonly LocatedWeight[] {
  return [...new Map(Object.values(step.weights).map((weight) => [weight.name, weight])).values()];
}

/** Reads weights from files into device memory and counts the bytes. */
class WeightReader {
  readonly #device: Device;
  readonly #options: ReadWeightOptions;
  readonly #bytesTotal: number;
  #bytesRead = 0;

  constructor(device: Device, steps: readonly LoadingStep[], options: ReadWeightOptions) {
    this.#device = device;
    this.#options = options;
    this.#bytesTotal = steps.flatMap(distinct).reduce((total, { byteLength }) => total + byteLength, 0);
  }

  async run(step: LoadingStep, layer: LayerParts): Promise<void> {
    const tensors = new Map<string, Tensor<FloatDType>>();
    try {
      for (const weight of distinct(step)) tensors.set(weight.name, await this.#read(weight));
      const weights = Object.entries(step.weights).map(([role, { name, layout }]) => {
        return [role, { ...layout, tensor: tensors.get(name) as Tensor<FloatDType> }] as const;
      });
      step.set(layer, Object.fromEntries(weights));
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
    // Without this wait the bytes of all experts would be in memory at once.
    await this.#device.synchronize();
  }

  async #read({ name, file, shape, dtype, byteOffset, byteLength }: LocatedWeight): Promise<Tensor<FloatDType>> {
    const { signal } = this.#options;
    const tensor = this.#device.empty(shape, dtype);
    try {
      const mapped = tensor.handle.map();
      const bytes = mapped ?? new Uint8Array(byteLength);
      await file.readRange(name, byteOffset, bytes, { signal, onProgress: (bytesDone) => this.#report(bytesDone) });
      if (mapped === undefined) tensor.handle.write(bytes, false);
      this.#bytesRead += byteLength;
      return tensor;
    } catch (error) {
      tensor.dispose();
      throw error;
    }
  }

  #report(bytesDone: number): void {
    this.#options.onProgress?.({ bytesRead: this.#bytesRead + bytesDone, bytesTotal: this.#bytesTotal });
  }
}
