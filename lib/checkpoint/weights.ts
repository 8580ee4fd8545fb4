import { Device } from "../core/device.js";
import { type FloatDType, floatDTypes } from "../core/dtype.js";
import { checkChoice, invalidArgument } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import { describeLayer } from "../layer/description/config.js";
import { MoeLayer } from "../layer/layer.js";
import type { ExpertWeights } from "../layer/weights/expert_weights.js";
import { extraRouters } from "../layer/weights/extra_routers.js";
import {
  setExpert,
  setExtraRouter,
  setRouter,
  setSelectionBias,
  setSharedExpert,
  setSharedGate,
} from "../layer/weights/set_weights.js";
import type { StoredWeight } from "../layer/weights/weight_layout.js";
import { checkedAt } from "./bad_checkpoint.js";
import { type LayerSource, type LocatedLayer, type LocatedWeight, locateLayer } from "./locate.js";

export interface WeightOptions {
  /** Storage dtype of the weights on the device; default the checkpoint's. */
  dtype?: FloatDType;
  /** Called as bytes of weights are read. */
  onProgress?: (progress: { bytesRead: number; bytesTotal: number }) => void;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options as read. */
export type ReadWeightOptions = { readonly [Name in keyof WeightOptions]: WeightOptions[Name] | undefined };

/**
 * Builds a layer on `device`, expert by expert: a file's bytes are read into device tensors, which are repacked and
 * freed before the next expert's are read. All tensors are looked up first, so that a bad checkpoint fails before the
 * layer's memory is allocated.
 * @throws BAD_CHECKPOINT for a missing tensor, another shape than the configuration says, or another dtype than F32,
 * F16 or BF16; the errors of MoeLayer.create.
 */
export async function loadWeights(source: LayerSource, device: Device, options: ReadWeightOptions): Promise<MoeLayer> {
  checkTarget(device, options.dtype);
  const located = await locateLayer(source);
  const dtype = options.dtype ?? located.router.dtype;
  const description = checkedAt(source.configPath, () => describeLayer(source.config, dtype));
  const steps = loadingSteps(source, located);
  const reader = new WeightReader(device, steps, options);
  const layer = new MoeLayer(device, description);
  try {
    for (const step of steps) await reader.run(step, layer);
    return layer;
  } catch (error) {
    layer.dispose();
    throw error;
  }
}

/** Throws INVALID_ARGUMENT unless weights can be stored on `device` as `dtype`. */
export function checkTarget(device: unknown, dtype: unknown): void {
  if (!(device instanceof Device)) throw invalidArgument("device", "a Device", device);
  if (dtype !== undefined) checkChoice("dtype", dtype, floatDTypes);
}

/** Weights that are on the device at the same time. */
interface LoadingStep {
  readonly weights: Readonly<Record<string, LocatedWeight>>;
  set(layer: MoeLayer, weights: Readonly<Record<string, StoredWeight>>): void;
}

function loadingSteps({ config }: LayerSource, located: LocatedLayer): readonly LoadingStep[] {
  const { router, routerBias, selectionBias, experts, shared, sharedGate, sharedGateBias } = located;
  const steps: LoadingStep[] = [
    {
      weights: { router, ...(routerBias && { routerBias }) },
      set: (layer, { router, routerBias }) => setRouter(layer, router as StoredWeight, routerBias),
    },
    ...experts.map(
      (expert, index): LoadingStep => ({
        weights: { ...expert },
        set: (layer, weights) => setExpert(layer, index, weights as unknown as ExpertWeights),
      }),
    ),
  ];
  if (selectionBias) {
    steps.push({
      weights: { selectionBias },
      set: (layer, { selectionBias }) => setSelectionBias(layer, selectionBias as StoredWeight),
    });
  }
  if (shared) {
    const width = config.sharedExpert?.intermediateSize as number;
    steps.push({
      weights: { ...shared },
      set: (layer, weights) => setSharedExpert(layer, weights as unknown as ExpertWeights, width),
    });
  }
  if (sharedGate) {
    steps.push({
      weights: { sharedGate, ...(sharedGateBias && { sharedGateBias }) },
      set: (layer, { sharedGate, sharedGateBias }) => setSharedGate(layer, sharedGate as StoredWeight, sharedGateBias),
    });
  }
  for (const { role } of extraRouters(config)) {
    const weight = located[role];
    if (weight === undefined) continue;
    steps.push({
      weights: { [role]: weight },
      set: (layer, weights) => setExtraRouter(layer, role, weights[role] as StoredWeight),
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

  async run(step: LoadingStep, layer: MoeLayer): Promise<void> {
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
