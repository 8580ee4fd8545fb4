import { type Device, openedDevice } from "../core/device/device.js";
import { type TokenFormat, tokenFormats } from "../core/formats/token_format.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import { choice, type Fields, object, optional, type Read, unchecked } from "../core/input/options.js";
import { bankOption, type ExpertRange } from "../core/layer/expert_range.js";
import { dtypes, type FloatDType } from "../core/tensors/dtype.js";
import { Tensor } from "../core/tensors/tensor.js";
import { tensor } from "../core/tensors/tensor_option.js";
import { isQuantized } from "../operators/experts/quantized_weight.js";
import { type QuantizeOptions, quantizeOptions } from "../operators/formats/quantize.js";
import { configFields, describeConfig, type MoeLayerConfig } from "./description/config.js";
import { checkedBank } from "./description/identity_experts.js";
import { type WeightDTypes, weightDTypes, weightStorage } from "./description/storage.js";
import { withTokenFormat } from "./description/token_format.js";
import { LayerParts } from "./layer_parts.js";
import { type OffloadOptions, offloadOption, offloadRule } from "./offload.js";
import { type ExpertMatrix, type ExpertWeights, expertWeights, matrix, readExperts } from "./weights/expert_weights.js";
import { checkExtraWeights, trainedRoles } from "./weights/extra_weights.js";
import { checkFormats, givenFormats, type LayerWeights, separatesGate } from "./weights/layer_weights.js";
import { quantizing } from "./weights/quantizing.js";
import { checkWeight, storedWeight, type Weight, weight } from "./weights/weight_layout.js";

/**
 * A layer's configuration and weights. `experts` is a list of E experts, or the same weights as stacked tensors, by
 * default with the expert as the first dimension ([E, I, H] and so on). `identityExperts` are not among them.
 */
export interface MoeLayerOptions
  extends MoeLayerConfig,
    LayerWeights<Weight, ExpertWeights, readonly ExpertWeights[] | ExpertWeights, ExpertMatrix, Tensor<"i32">> {
  /** Where the weights go; that of the given tensors. */
  device: Device;
  /**
   * How the weights are stored on the device: a dtype for all, a quantised format for the experts' matrices (see
   * {@link WeightFormatName}), or one for each role. Default: every role as it is given; but the dtype of the
   * router for all where only some of the weights are f64 and none is quantised.
   */
  dtype?: WeightFormatName | WeightDTypes | undefined;
  /** How matrices are quantised that `dtype` asks to be; see {@link quantize}. */
  quantize?: QuantizeOptions | undefined;
  /**
   * Hold only these experts; `experts` then has only these. `forward` returns their share of the output, weighted by
   * the whole layer's routing, so the outputs of a layer's banks add up to the layer's output. The shared expert
   * belongs to the bank with `first: 0`, and so do `identityExperts`. Default: all experts.
   */
  bank?: ExpertRange | undefined;
  /** Round tokens to 8 bits where they are multiplied by quantised weights; see {@link TokenFormat}. Default none. */
  tokenFormat?: TokenFormat | undefined;
  /**
   * Keep only some of the experts in the device's memory. On `cuda` and `simt`; `cpu` needs a cache file, and so
   * MoeLayer.load. Default: all are there.
   */
  offload?: OffloadOptions | undefined;
}

const createFields = {
  ...configFields,
  device: openedDevice,
  dtype: optional(weightDTypes),
  quantize: optional(quantizeOptions),
  bank: optional(bankOption),
  tokenFormat: optional(choice(tokenFormats), "none"),
  offload: optional(offloadOption),
  router: weight,
  routerBias: optional(weight),
  noiseRouter: optional(weight),
  groupRouter: optional(weight),
  groupRouterBias: optional(weight),
  groupNoiseRouter: optional(weight),
  routerNormWeight: optional(weight),
  expertScale: optional(weight),
  expertTable: optional(tensor<"i32">()),
  selectionBias: optional(weight),
  experts: unchecked,
  shared: optional(expertWeights),
  sharedGate: optional(weight),
  sharedGateBias: optional(weight),
  latentDown: optional(matrix),
  latentUp: optional(matrix),
  latentNormWeight: optional(weight),
} satisfies Fields<MoeLayerOptions>;
const createOptions = object(createFields, "{ device, hiddenSize, ..., router, experts }");

/** The options as read, without the device, and with the experts as given. */
type GivenLayer = Omit<Read<typeof createOptions>, "device" | "experts"> & {
  readonly experts: ExpertWeights | readonly ExpertWeights[];
};

/** The parts of a layer from tensors; see MoeLayer.create. */
export function createLayer(options: MoeLayerOptions): LayerParts {
  const { device, ...read } = createOptions(options, "options");
  const { router, hiddenSize, numExperts } = read;
  const bank = checkedBank(read.bank, read);
  const given: GivenLayer = { ...read, experts: readExperts(read.experts, bank.count) };
  checkWeight("router", router, [numExperts, hiddenSize], device);
  const experts = (Array.isArray(given.experts) ? given.experts : [given.experts]) as readonly ExpertWeights[];
  const all = { experts, shared: given.shared };
  const storage = weightStorage(read.dtype, givenFormats(given, experts[0] as ExpertWeights, formatOf));
  const separateGate = separatesGate(all, changesInputs);
  const description = withTokenFormat(describeConfig(read, { ...storage, separateGate }, bank), read.tokenFormat);
  checkFormats(all, description, read.dtype, formatOf);
  const parts = new LayerParts(device, description, {
    quantizing: quantizing(read.dtype, read.quantize),
    offload: offloadRule(read.offload, device, bank),
  });
  try {
    setWeights(parts, given);
    return parts;
  } catch (error) {
    parts.dispose();
    throw error;
  }
}

/** The format of a weight whose tensors have not been checked yet; undefined if weights cannot have it. */
function formatOf(weight: ExpertMatrix): WeightFormatName | undefined {
  if (isQuantized(weight)) return weight.format;
  const { tensor } = storedWeight(weight);
  return tensor instanceof Tensor && dtypes[tensor.dtype].float ? (tensor.dtype as FloatDType) : undefined;
}

function changesInputs(weight: ExpertMatrix): boolean {
  return isQuantized(weight) && (weight.inputScale ?? weight.inputOrder) !== undefined;
}

function setWeights(parts: LayerParts, given: GivenLayer): void {
  const { description, router, bank } = parts;
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
  checkExtraWeights(description, given);
  if (given.expertTable !== undefined) router.weights.setExpertTable(given.expertTable);
  for (const role of trainedRoles) {
    const weight = given[role];
    if (weight !== undefined) parts.setExtra(role, weight);
  }
}
