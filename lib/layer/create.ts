import type { ExpertRange } from "../core/backend.js";
import { type Device, openedDevice } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { type Fields, floatDType, object, optional, type Read, unchecked } from "../core/options.js";
import { bankOption, checkBank } from "./description/bank.js";
import { configFields, describeConfig, type MoeLayerConfig } from "./description/config.js";
import { type WeightDTypes, weightDTypes, weightStorage } from "./description/storage.js";
import { LayerParts } from "./layer_parts.js";
import { type ExpertWeights, expertWeights, readExperts } from "./weights/expert_weights.js";
import { checkExtraRouters, extraRouters } from "./weights/extra_routers.js";
import { givenDTypes, type LayerWeights } from "./weights/layer_weights.js";
import { checkWeight, storedWeight, type Weight, weight } from "./weights/weight_layout.js";

/** `experts`: a list of E, or the same tensors stacked, by default with the expert first ([E, I, H] and so on). */
export interface MoeLayerOptions
  extends MoeLayerConfig,
    LayerWeights<Weight, readonly ExpertWeights[] | ExpertWeights> {
  device: Device;
  /** Storage dtype of the weights on the device: one for all, or by role. Default the dtype of the router's weight for all. */
  dtype?: FloatDType | WeightDTypes;
  /**
   * Hold these experts only, and `experts` has no others: `forward` then gives their share of the output, with the weights of
   * the whole routing, so that the outputs of the banks of a layer add up to the layer's. The bank with `first: 0` has the
   * shared expert. Default all.
   */
  bank?: ExpertRange;
}

const createFields = {
  ...configFields,
  device: openedDevice,
  dtype: optional(weightDTypes(floatDType)),
  bank: optional(bankOption),
  router: weight,
  routerBias: optional(weight),
  noiseRouter: optional(weight),
  groupRouter: optional(weight),
  groupRouterBias: optional(weight),
  groupNoiseRouter: optional(weight),
  selectionBias: optional(weight),
  experts: unchecked,
  shared: optional(expertWeights),
  sharedGate: optional(weight),
  sharedGateBias: optional(weight),
} satisfies Fields<MoeLayerOptions>;
const createOptions = object(createFields, "{ device, hiddenSize, ..., router, experts }");

/** The options as read, but for the device, and the experts as they were given. */
type GivenLayer = Omit<Read<typeof createOptions>, "device" | "experts"> & {
  readonly experts: ExpertWeights | readonly ExpertWeights[];
};

/** The parts of a layer from tensors; see MoeLayer.create. */
export function createLayer(options: MoeLayerOptions): LayerParts {
  const { device, ...read } = createOptions(options, "options");
  const { router, hiddenSize, numExperts } = read;
  const bank = checkBank(read.bank, numExperts);
  const given: GivenLayer = { ...read, experts: readExperts(read.experts, bank.count) };
  checkWeight("router", router, [numExperts, hiddenSize], device);
  const firstExpert = (Array.isArray(given.experts) ? given.experts[0] : given.experts) as ExpertWeights;
  const storage = weightStorage(read.dtype, givenDTypes(given, firstExpert, dtypeOf));
  const parts = new LayerParts(device, describeConfig(read, storage, bank));
  try {
    setWeights(parts, given);
    return parts;
  } catch (error) {
    parts.dispose();
    throw error;
  }
}

/** Of a weight whose tensor is not checked yet. */
function dtypeOf(weight: Weight): FloatDType {
  return storedWeight(weight).tensor?.dtype;
}

function setWeights({ description, router, bank }: LayerParts, given: GivenLayer): void {
  const { experts, sharedExpert, shared, sharedGate } = given;
  router.weights.set(given.router, given.routerBias);
  if (given.selectionBias !== undefined) router.weights.setSelectionBias(given.selectionBias);
  if (Array.isArray(experts)) {
    experts.forEach((expert, index) => {
      bank.setExpert(index, expert);
    });
  } else {
    bank.setStacked(experts as ExpertWeights);
  }
  bank.checkShared(given);
  if (sharedExpert && shared) bank.setShared(shared, sharedExpert.intermediateSize);
  if (sharedGate) bank.setSharedGate(sharedGate, given.sharedGateBias);
  checkExtraRouters(description, given);
  for (const { role } of extraRouters(description)) {
    const weight = given[role];
    if (weight !== undefined) router.weights.setExtra(role, weight);
  }
}
