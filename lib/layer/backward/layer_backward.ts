import { invalidArgument, requires } from "../../core/errors.js";
import { boolean, type Fields, object, optional, type Read, type Reader } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import { shapeSize } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output, resultDType } from "../../operators/check.js";
import { rmsNormBackward } from "../../operators/experts/rms_norm_backward.js";
import type { LayerParts } from "../layer_parts.js";
import { checkGoesWithWeights } from "../router/tokens.js";
import { Temporaries } from "../temporaries.js";
import { bankBackward } from "./bank_backward.js";
import { dxTerms } from "./experts_backward.js";
import { identityBackward } from "./identity_backward.js";
import { latentBackward } from "./latent_backward.js";
import { freePass, LayerState, type SavedPass } from "./layer_state.js";
import { LayerTensors } from "./layer_tensors.js";
import { checkLosses, type GradLosses, gradLossesOption, type LossValues } from "./losses.js";
import { trainsExperts } from "./matrices.js";
import { routingBackward } from "./routing_backward.js";
import { addTo, MatrixSum } from "./sums.js";

/** Options of {@link MoeLayer.backward}. */
export interface BackwardOptions {
  /**
   * Gradients of an earlier backward of the same layer to write to, or those of its parameters; default new ones. If the
   * routing was given, those of the routers become zeros, and a step leaves routers as they are whose gradients never were.
   */
  gradients?: LayerTensors | undefined;
  /** Add to `gradients` instead of overwriting them; default false. */
  accumulate?: boolean | undefined;
  /**
   * False: the experts are frozen; only dx and the gradients of the routers are computed. Default true, but false for a
   * layer with quantised experts, which have no gradients.
   */
  experts?: boolean | undefined;
  /**
   * [H] f32, for a forward with `norm`: where to write the gradient of its weight, or with `accumulate` to add it; default
   * a new tensor, to which nothing is added.
   */
  dNormWeight?: Tensor<"f32"> | undefined;
  /** Losses whose gradients are added to those of the logits; not of a layer with `hierarchy`, which has logits of two gates. */
  gradLosses?: GradLosses | undefined;
}

/** What {@link MoeLayer.backward} gives. */
export interface LayerBackward<D extends FloatDType = FloatDType> {
  /** Has the shape and dtype of x. */
  readonly dx: Tensor<D>;
  /** Has the shape and dtype of `routerInput`; undefined without one, and if the routing was given. */
  readonly dRouterInput: Tensor<FloatDType> | undefined;
  /** The gradients of the layer's weights. */
  readonly gradients: LayerTensors;
  /** [T, k] f32: the gradient of the weights of a routing that was given; otherwise undefined. */
  readonly dWeights: Tensor<"f32"> | undefined;
  /** [H] f32: the gradient of the weight of `norm`; undefined without one. The tensor that was given, if one was. */
  readonly dNormWeight: Tensor<"f32"> | undefined;
  /** The losses of `gradLosses`, without their factors; undefined without it. */
  readonly losses: LossValues | undefined;
}

const gradients: Reader<LayerTensors> = (value, name) => {
  if (value instanceof LayerTensors) return value;
  throw invalidArgument(name, "the gradients of an earlier backward", value);
};

export const backwardOptions = object(
  {
    gradients: optional(gradients),
    accumulate: optional(boolean, false),
    experts: optional(boolean),
    dNormWeight: optional(tensor<"f32">()),
    gradLosses: optional(gradLossesOption),
  } satisfies Fields<BackwardOptions>,
  "{ accumulate: true, gradients }",
);

/** See {@link MoeLayer.backward}. */
export function layerBackward(
  parts: LayerParts,
  state: LayerState,
  dy: Tensor<FloatDType>,
  options: Read<typeof backwardOptions>,
): LayerBackward {
  if (!(state instanceof LayerState)) {
    throw invalidArgument("state", "what forward(x, { save: true }) returned as `state`", state);
  }
  const { onDevice, device, description } = parts;
  const shape = state.shapeFor(onDevice);
  checkTensor("dy", dy, "float", shape, device);
  checkGoesWithWeights("dy", dy.dtype, description.weightDType);
  const { accumulate, gradLosses } = options;
  const experts = trainsExperts(parts, options.experts);
  if (accumulate && options.gradients === undefined) throw requires("accumulate", "gradients to add to");
  const given = state.routingGiven;
  if (gradLosses !== undefined && given) throw requires("gradLosses", "a forward with the layer's own routing");
  if (gradLosses !== undefined && description.hierarchy !== undefined) {
    throw requires("gradLosses", "a layer without hierarchy");
  }
  if (gradLosses !== undefined) checkLosses(gradLosses, shapeSize(shape.slice(0, -1)), device);
  const wanted = { experts, routers: !given };
  options.gradients?.checkFor(onDevice, wanted);
  const dNormWeight = normWeightTarget(options.dNormWeight, state, dy);
  const pass = state.take(onDevice);
  using made = new Made();
  try {
    const dtype = resultDType(pass.x);
    const result = options.gradients ?? made.own(new LayerTensors(parts, dtype, wanted, "gradients"));
    const results = passBackward(parts, pass, dy, result, { accumulate, gradLosses, dNormWeight });
    result.markWritten(wanted, accumulate);
    return made.returned({ ...results, gradients: result });
  } finally {
    freePass(pass);
  }
}

/** The tensor that was given for the gradient of the norm's weight, after checking that it fits and overlaps no input. */
function normWeightTarget(
  given: Tensor<"f32"> | undefined,
  { norm }: LayerState,
  dy: Tensor<FloatDType>,
): Tensor<"f32"> | undefined {
  if (given === undefined) return undefined;
  if (norm === undefined) throw requires("dNormWeight", "a forward with norm");
  const { weight, tokens } = norm;
  return output("dNormWeight", given, dy.device, weight.shape, resultDType(tokens), [dy, weight, tokens]);
}

function passBackward(
  parts: LayerParts,
  pass: SavedPass,
  given: Tensor<FloatDType>,
  gradients: LayerTensors,
  options: Pick<Read<typeof backwardOptions>, "accumulate" | "gradLosses" | "dNormWeight">,
): Omit<LayerBackward, "gradients"> {
  using temporaries = new Temporaries();
  using made = new Made();
  const { onDevice, device, description } = parts;
  const { accumulate, gradLosses: losses } = options;
  const { tokens } = pass;
  const size = [tokens.count, description.hiddenSize] as const;
  const dy = temporaries.keep(given.reshape(size));
  const ofExperts = parts.expertLayers.includes(onDevice) ? dxTerms(onDevice) : 0;
  const { identity } = parts.bank;
  const terms = ofExperts + (parts.projections ? 1 : 0) + (identity ? 1 : 0) + 2;
  const dx = temporaries.keep(new MatrixSum(device, size, tokens.dtype, terms));
  const dChosen =
    parts.projections === undefined
      ? bankBackward(parts, { ...pass, layer: onDevice, dy }, { gradients, accumulate, dx })
      : latentBackward(parts, parts.projections, pass, dy, { gradients, accumulate, dx });
  gradients.gather();
  const dWeights = identity ? identityBackward(identity, pass, dy, temporaries.keep(dChosen), dx) : dChosen;
  let dRouterInput: Tensor<FloatDType> | undefined;
  let values: LossValues | undefined;
  if (pass.given) made.own(dWeights);
  else {
    temporaries.keep(dWeights);
    const { routerInput } = pass;
    dRouterInput = routerInput && made.own(device.empty(pass.shape, routerInput.dtype));
    using place = dRouterInput?.reshape(size) ?? dx.term();
    values = routingBackward(parts, pass, dWeights, { gradients, accumulate, losses, dx: place });
    made.own(values?.loadBalancingLoss);
    made.own(values?.zLoss);
  }
  const result = made.own(device.empty(pass.shape, pass.x.dtype));
  using flat = result.reshape(size);
  const dNormWeight = intoTokens(pass, dx, pass.addsTokens ? dy : undefined, { ...options, dx: flat });
  const ofRouting = pass.given ? dWeights : undefined;
  return made.returned({ dx: result, dRouterInput, dWeights: ofRouting, dNormWeight, losses: values });
}

/** Where the gradients of the caller's tokens go, and those of the weight of their norm. */
interface TokensTarget {
  readonly dx: Tensor<FloatDType>;
  readonly dNormWeight: Tensor<"f32"> | undefined;
  readonly accumulate: boolean;
}

/** Writes the gradient of the caller's tokens: through the norm, if there is one, whose weight's is returned, and past it. */
function intoTokens(
  { norm, tokens }: SavedPass,
  sum: MatrixSum,
  residual: Tensor<FloatDType> | undefined,
  { dx, dNormWeight, accumulate }: TokensTarget,
): Tensor<"f32"> | undefined {
  if (norm === undefined) {
    sum.into(dx, residual);
    return undefined;
  }
  const { device } = dx;
  const { weight, epsilon, offset } = norm;
  using dNormalised = sum.toTensor(dx.shape, tokens.dtype);
  using made = new Made();
  const target = dNormWeight ?? made.own(device.empty(weight.shape, tokens.dtype));
  using term = accumulate && dNormWeight ? device.empty(weight.shape, tokens.dtype) : undefined;
  rmsNormBackward(norm.tokens, weight, dNormalised, {
    epsilon,
    offset,
    ...(residual && { residual }),
    out: { dx, dWeight: term ?? target },
  });
  if (term) addTo(target, term);
  return made.returned(target);
}
