import type { ExpertRange } from "../core/backend.js";
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { Tensor } from "../core/tensor.js";
import { describeLayer, type MoeLayerDescription } from "../layer/description/config.js";
import { uniformStorage, type WeightDTypes, type WeightStorage, weightStorage } from "../layer/description/storage.js";
import { LayerParts } from "../layer/layer_parts.js";
import type { ExpertWeights } from "../layer/weights/expert_weights.js";
import { extraRouters } from "../layer/weights/extra_routers.js";
import { givenDTypes } from "../layer/weights/layer_weights.js";
import type { StoredWeight } from "../layer/weights/weight_layout.js";
import { checkedAt } from "./bad_checkpoint.js";
import { type LayerSource, type LocatedLayer, type LocatedWeight, locateLayer, locateRouter } from "./locate.js";

/** How far the reading of a layer's weights is. */
export interface Progress {
  bytesRead: number;
  bytesTotal: number;
}

export interface WeightOptions {
  /**
   * Storage dtype of the weights on the device: one for all, or by role. Default the dtype of the router's weight in the
   * checkpoint for all; `{}` keeps every role as the checkpoint has it.
   */
  dtype?: FloatDType | WeightDTypes;
  /**
   * Hold these experts only, and read no others' bytes: `forward` then gives their share of the output, with the weights of the
   * whole routing, so that the outputs of the banks of a layer add up to the layer's. The bank with `first: 0` has the
   * shared expert. Default all.
   */
  bank?: ExpertRange;
  /** Called as bytes of weights are read. */
  onProgress?: (progress: Progress) => void;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** How weights are read, of the options as read. */
export type ReadWeightOptions = { readonly [Name in "onProgress" | "signal"]?: WeightOptions[Name] | undefined };

/**
 * What a layer of a checkpoint computes and how it is stored.
 * @throws BAD_CHECKPOINT for a configuration that makes no sense, and where a weight whose dtype decides is missing.
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
  const [expert] = located.experts as readonly [ExpertWeights<LocatedWeight>];
  return weightStorage(
    dtype,
    givenDTypes(located, expert, (weight) => weight.dtype),
  );
}

/**
 * Builds a layer on `device`, expert by expert: a file's bytes are read into device tensors, which are repacked and
 * freed before the next expert's are read. All tensors are looked up first, so that a bad checkpoint fails before the
 * layer's memory is allocated.
 * @throws BAD_CHECKPOINT for a missing tensor, another shape than the configuration says, or another dtype than F32,
 * F16 or BF16; the errors of MoeLayer.create.
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

/** A step's weights, each once: gate and up may be parts of the same tensor. */
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
    // Without this wait the files' bytes of all experts would be alive at once.
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
