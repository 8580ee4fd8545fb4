import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { noisyLogitsBackward } from "../../operators/noise/noisy_logits_backward.js";
import { expertChoiceBackward } from "../../operators/routing/expert_choice_backward.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { LayerParts } from "../layer_parts.js";
import { gateNoise, noisyGate } from "../router/stages.js";
import { type GateName, readFrom } from "../router/tokens.js";
import { Temporaries } from "../temporaries.js";
import type { TrainedRouterRole } from "../weights/extra_weights.js";
import { type GateInputTarget, gateInput, gateInputBackward } from "./gate_input.js";
import { readByRouter, type SavedPass } from "./layer_state.js";
import { addLosses, type LossValues, lossTerms, type ReadLosses } from "./losses.js";
import { copiedProjection } from "./matrices.js";
import { projectionBackward } from "./projection.js";
import { expertScaleBackward } from "./scales_backward.js";
import { MatrixSum } from "./sums.js";

/** Where the gradients of the routers go, and what else the logits' gradients get. */
export interface RoutingTarget extends GateInputTarget {
  readonly losses: ReadLosses | undefined;
}

/** The logits of a gate as the forward used them. */
interface Gate {
  readonly logits: Tensor<"f32">;
  /** The raw deviation of the noise, if there is noise. */
  readonly spread: Tensor<"f32"> | undefined;
}

/**
 * From the gradients dWeights [T, k] of a routing's weights, with the choice held fixed, to the router's tokens and to the
 * routers' weights, through the experts' scales, capacity, gates, noise and the router's norm. Returns the losses of the logits.
 */
export function routingBackward(
  parts: LayerParts,
  pass: SavedPass,
  dWeights: Tensor<"f32">,
  target: RoutingTarget,
): LossValues | undefined {
  using temporaries = new Temporaries();
  using made = new Made();
  const { device, router } = parts;
  const { description } = parts.onDevice;
  const { tokens, training } = pass;
  const { hierarchy, noisy, hiddenSize, perExpertScale } = description;
  const x = gateInput(parts, pass, temporaries);
  const gateOf = (name: GateName): Gate => {
    const clean = temporaries.keep(router.weights.logits(x.handle, tokens, name));
    if (training === undefined || noisy === undefined) return { logits: clean, spread: undefined };
    const spread = temporaries.keep(router.weights.noiseSpread(x.handle, clean, name));
    const { logits, deviation } = noisyGate(x.handle, clean, training, router.weights, name);
    temporaries.keep(deviation);
    return { logits: temporaries.keep(logits), spread };
  };
  const gates = { experts: gateOf("experts"), ...(hierarchy && { groups: gateOf("groups") }) };
  const scales = target.gradients.projection("expertScale")?.weight;
  const dChosen = perExpertScale
    ? temporaries.keep(expertScaleBackward(parts, pass, dWeights, scales, target.accumulate))
    : dWeights;
  const { dLogits, losses } = logitsBackward(parts, pass, dChosen, gates, target.losses, { temporaries, made });

  const names = Object.keys(gates) as GateName[];
  const sum = temporaries.keep(new MatrixSum(device, [tokens.count, hiddenSize], tokens.dtype, 2 * names.length));
  const backward = (role: "router" | TrainedRouterRole, weight: Tensor<FloatDType>, gradient: Tensor<"f32">) => {
    using dx = sum.term();
    const into = target.gradients.projection(role);
    if (into) projectionBackward({ x, weight, dLogits: gradient, dx, into, accumulate: target.accumulate });
  };
  for (const name of names) {
    const ofExperts = name === "experts";
    const gradient = dLogits[name] as Tensor<"f32">;
    const weight = ofExperts
      ? temporaries.keep(copiedProjection(parts.onDevice, "router", description.numExperts))
      : (router.weights.extra("groupRouter") as Tensor<FloatDType>);
    backward(ofExperts ? "router" : "groupRouter", weight, gradient);
    const { spread } = gates[name] as Gate;
    if (spread === undefined) continue;
    const role = ofExperts ? "noiseRouter" : "groupNoiseRouter";
    const noise = gateNoise(training, name, tokens.count, description.numExperts);
    const dSpread = temporaries.keep(noisyLogitsBackward(spread, gradient, noise));
    backward(role, router.weights.extra(role) as Tensor<FloatDType>, dSpread);
  }
  gateInputBackward(parts, pass, sum, target);
  return made.returned(losses);
}

/** The gradients of the gates' logits, and the losses among what they come from. */
function logitsBackward(
  parts: LayerParts,
  pass: SavedPass,
  dWeights: Tensor<"f32">,
  gates: { readonly experts: Gate; readonly groups?: Gate | undefined },
  losses: ReadLosses | undefined,
  { temporaries, made }: { readonly temporaries: Temporaries; readonly made: Made },
): { readonly dLogits: Partial<Record<GateName, Tensor<"f32">>>; readonly losses?: LossValues | undefined } {
  const { device, description } = parts;
  const { hierarchy, expertChoice, scoring } = description;
  const { logits } = gates.experts;
  const { ids, dChosen } = chosenBackward(parts, pass, dWeights, temporaries);
  if (hierarchy) {
    const groupLogits = (gates.groups as Gate).logits;
    const [dGroupLogits, dLogits] = [groupLogits, logits].map(({ shape, dtype }) =>
      temporaries.keep(device.empty(shape, dtype)),
    ) as [Tensor<"f32">, Tensor<"f32">];
    device.backend.hierarchicalGatingBackward({
      groupLogits: groupLogits.handle,
      logits: logits.handle,
      ids: ids.handle,
      dWeights: dChosen.handle,
      dGroupLogits: dGroupLogits.handle,
      dLogits: dLogits.handle,
      groups: hierarchy.groups,
      experts: hierarchy.experts,
    });
    return { dLogits: { groups: dGroupLogits, experts: dLogits } };
  }
  const shape = logits.shape as [number, number];
  using sum = new MatrixSum(device, shape, logits.dtype, 1 + lossTerms(losses));
  using dLogits = sum.term();
  if (expertChoice) {
    expertChoiceBackward(logits, { ids }, dChosen, { scoring: scoring as ExpertScoring, out: dLogits });
  } else {
    device.backend.gatingBackward({
      logits: logits.handle,
      ids: ids.handle,
      dWeights: dChosen.handle,
      dLogits: dLogits.handle,
      rule: description,
    });
  }
  const values = losses && addLosses(losses, logits, ids, made, () => sum.term());
  return { dLogits: { experts: temporaries.keep(sum.toTensor(shape, logits.dtype)) }, losses: values };
}

/** What the gate had chosen before `capacity` dropped choices, and the gradient of its weights. */
function chosenBackward(
  { device, router, description }: LayerParts,
  pass: SavedPass,
  dWeights: Tensor<"f32">,
  temporaries: Temporaries,
): { readonly ids: Tensor<"i32">; readonly dChosen: Tensor<"f32"> } {
  const { tokens, training, routing } = pass;
  const { capacity } = description;
  if (capacity === undefined) return { ids: routing.ids, dChosen: dWeights };
  const read = readByRouter(pass);
  const chosen: Routing = router.choose(read.handle, readFrom(tokens, read), training);
  temporaries.keep(chosen.ids);
  temporaries.keep(chosen.weights);
  const dChosen = temporaries.keep(device.empty(dWeights.shape, dWeights.dtype));
  device.backend.limitCapacityBackward({
    ids: chosen.ids.handle,
    weights: chosen.weights.handle,
    keptIds: routing.ids.handle,
    dKeptWeights: dWeights.handle,
    dWeights: dChosen.handle,
    divisor: capacity.divisor,
    scale: capacity.scale,
  });
  return { ids: chosen.ids, dChosen };
}
