import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import { allOrNone } from "../../core/tensors/all_or_none.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { type NoiseSource as GivenNoise, type NoisyLogits, noisyLogits } from "../../operators/noise/noisy_logits.js";
import { chooseTokens } from "../../operators/routing/expert_choice.js";
import type { Routing } from "../../operators/routing/gating.js";
import { chooseByGroups } from "../../operators/routing/hierarchical_gating.js";
import { dropOverflow } from "../../operators/routing/limit_capacity.js";
import { lookUpExperts } from "../../operators/routing/look_up_experts.js";
import type { MoeLayerDescription } from "../description/config.js";
import { Temporaries } from "../temporaries.js";
import type { RouterWeights } from "./router_weights.js";
import { timesExpertScale } from "./scales.js";
import { type GateName, readFrom, type Tokens } from "./tokens.js";
import type { NoiseSource } from "./training.js";

/** A routing on its way through a router's stages: what one stage leaves for the next. */
export class RoutingState extends Temporaries {
  /** The tokens as the router sees them. */
  x: TensorHandle;
  tokens: Tokens;
  /** The source of the noise in training. */
  readonly source: NoiseSource | undefined;
  readonly logits: Partial<Record<GateName, Tensor<"f32">>> = {};
  routing: Routing | undefined;
  /** What is the caller's once the last step is done. */
  readonly made: Made = new Made();

  constructor(x: TensorHandle, tokens: Tokens, source: NoiseSource | undefined) {
    super();
    this.x = x;
    this.tokens = tokens;
    this.source = source;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.made[Symbol.dispose]();
  }
}

/**
 * One step of a routing. The last step of the list writes ids and weights to `out`, if given; otherwise a step
 * allocates its own tensors.
 */
export type RoutingStage = (state: RoutingState, router: RouterWeights, out: Routing | undefined) => void;

/**
 * The stages of a layer's routing, with noise if `training`, and without a choice if the experts are `given` with the tokens.
 * The stage `chooseOnDevice` runs the router and gating of the device's fused forward.
 */
export function routingStages(
  description: MoeLayerDescription,
  training: boolean,
  given: boolean,
): readonly RoutingStage[] {
  const { noisy, routerJitter, routerNorm, hierarchy, expertChoice, capacity, perExpertScale, hashRouting } =
    description;
  const noise = training && noisy !== undefined;
  const score = (gate: GateName) => (noise ? [project(gate), addNoise(gate)] : [project(gate)]);
  const choose = () => {
    if (given) return [...score("experts"), takeGivenExperts];
    if (hierarchy) return [...score("groups"), ...score("experts"), chooseInGroups];
    if (expertChoice) return [...score("experts"), letExpertsChoose];
    if (hashRouting) return [...score("experts"), chooseByTokenIds];
    return noise ? [...score("experts"), chooseByLogits] : [chooseOnDevice];
  };
  const stages = [
    ...(routerNorm ? [normaliseInput] : []),
    ...(training && routerJitter !== undefined ? [jitterInput] : []),
    ...choose(),
    ...(capacity ? [limitCapacity] : []),
  ];
  const last = stages.pop() as RoutingStage;
  return [...stages, perExpertScale ? scaled(last) : last];
}

/** Replaces x by x after the router's norm. */
const normaliseInput: RoutingStage = (state, router) => {
  const normalised = router.normalised(state.x, state.tokens);
  if (normalised === undefined) return;
  state.x = state.keep(normalised).handle;
  state.tokens = readFrom(state.tokens, normalised);
};

/** A stage that gives a routing, whose weights are then multiplied by the scales of the experts. */
function scaled(stage: RoutingStage): RoutingStage {
  return (state, router, out) => {
    const routing = out ?? newRouting(state, router);
    const { shape, dtype } = routing.weights;
    const before = { ids: routing.ids, weights: state.keep(router.device.empty(shape, dtype)) };
    stage(state, router, before);
    timesExpertScale(before, router.extra("expertScale") as Tensor<FloatDType>, routing.weights);
    state.routing = routing;
  };
}

/** Replaces x by x with jitter. */
const jitterInput: RoutingStage = (state, { device, description }) => {
  const { count, inputDType } = state.tokens;
  const jittered = state.keep(device.empty([count, description.hiddenSize], inputDType));
  device.backend.jitter({
    x: state.x,
    seed: state.source?.seed as bigint,
    epsilon: description.routerJitter as number,
    y: jittered.handle,
  });
  state.x = jittered.handle;
};

function project(gate: GateName): RoutingStage {
  return (state, router) => {
    state.logits[gate] = state.keep(router.logits(state.x, state.tokens, gate));
  };
}

function addNoise(gate: GateName): RoutingStage {
  return (state, router) => {
    const { logits, deviation } = noisyGate(state.x, state.logits[gate] as Tensor<"f32">, state.source, router, gate);
    state.keep(deviation);
    state.logits[gate] = state.keep(logits);
  };
}

/** Adds the noise of noisy gating to a gate's `clean` logits [T, E], or [T, G] for the groups. */
export function noisyGate(
  x: TensorHandle,
  clean: Tensor<"f32">,
  source: NoiseSource | undefined,
  router: RouterWeights,
  gate: GateName,
): NoisyLogits {
  const { noisy, numExperts } = router.description;
  using spread = router.noiseSpread(x, clean, gate);
  return noisyLogits(clean, spread, { ...gateNoise(source, gate, clean.shape[0] as number, numExperts), ...noisy });
}

/** Where a gate's noise for `tokens` tokens comes from. */
export function gateNoise(
  source: NoiseSource | undefined,
  gate: GateName,
  tokens: number,
  numExperts: number,
): GivenNoise {
  const given = gate === "experts" ? source?.noise : source?.groupNoise;
  if (given !== undefined) return { noise: given };
  return { seed: source?.seed as bigint, offset: gate === "experts" ? 0 : tokens * numExperts };
}

const chooseOnDevice: RoutingStage = (state, router, out) => {
  state.routing = out ?? newRouting(state, router);
  router.choose(state.x, state.tokens, state.routing.ids, state.routing.weights);
};

const chooseByLogits: RoutingStage = (state, router, out) => {
  state.routing = out ?? newRouting(state, router);
  const { ids, weights } = state.routing;
  const logits = state.logits.experts as Tensor;
  router.device.backend.gating({
    logits: logits.handle,
    ids: ids.handle,
    weights: weights.handle,
    rule: router.description,
  });
};

const chooseByTokenIds: RoutingStage = (state, router, out) => {
  const routing = out ?? newRouting(state, router);
  const tokenIds = state.tokens.ids as Tensor<"i32">;
  lookUpExperts(router.extra("expertTable") as Tensor<"i32">, tokenIds, { out: routing.ids });
  weigh(state, router, routing);
};

const takeGivenExperts: RoutingStage = (state, router, out) => {
  weigh(state, router, out ?? ownRouting(state.made, givenRouting(router, state.tokens)));
};

/** Writes the weights that the layer's rule gives to the experts of a routing. */
function weigh(state: RoutingState, { device, description }: RouterWeights, routing: Routing): void {
  const logits = state.logits.experts as Tensor;
  const [ids, weights] = [routing.ids.handle, routing.weights.handle];
  device.backend.gatingWeights({ logits: logits.handle, ids, weights, rule: description });
  state.routing = routing;
}

const chooseInGroups: RoutingStage = (state, { description }, out) => {
  const { groups, experts } = state.logits as Required<RoutingState["logits"]>;
  const rules = description.hierarchy as NonNullable<MoeLayerDescription["hierarchy"]>;
  state.routing = chooseByGroups(groups, experts, rules.groups, rules.experts, out);
};

const letExpertsChoose: RoutingStage = (state, { description }, out) => {
  const { expertChoice, scoring } = description;
  const amount = expertChoice as NonNullable<typeof expertChoice>;
  const logits = state.logits.experts as Tensor<"f32">;
  const { ids, weights, tokens, tokenWeights } = chooseTokens(logits, amount, scoring as ExpertScoring, out);
  state.keep(tokens);
  state.keep(tokenWeights);
  state.routing = { ids, weights };
};

const limitCapacity: RoutingStage = (state, { description }, out) => {
  const { capacity, numExperts } = description;
  const chosen = state.routing as Routing;
  state.keep(chosen.ids);
  state.keep(chosen.weights);
  const rule = capacity as NonNullable<typeof capacity>;
  state.routing = dropOverflow(chosen, rule, numExperts, state.tokens.sequenceLength, out);
};

/**
 * Memory for the routing of `count` tokens with topK experts each. The ids of experts that are given, and of which none are
 * dropped, are there already.
 */
export function emptyRouting(router: RouterWeights, tokens: Tokens): Routing {
  const { device, description } = router;
  if (tokens.expertIds !== undefined && description.capacity === undefined) return givenRouting(router, tokens);
  const shape = [tokens.count, description.topK];
  const [ids, weights] = allOrNone(["i32", tokens.dtype] as const, (dtype) => device.empty(shape, dtype));
  return { ids, weights } as Routing;
}

/** Memory for what a step chooses. */
function newRouting({ made, tokens }: RoutingState, router: RouterWeights): Routing {
  return ownRouting(made, emptyRouting(router, tokens));
}

/** The same routing, both of whose tensors were made. */
export function ownRouting(made: Made, routing: Routing): Routing {
  made.own(routing.ids);
  made.own(routing.weights);
  return routing;
}

/** Memory for the weights of experts that are given. */
function givenRouting({ device }: RouterWeights, { expertIds, dtype }: Tokens): Routing {
  const { shape } = expertIds as Tensor<"i32">;
  const weights = device.empty(shape, dtype);
  return { ids: (expertIds as Tensor<"i32">).reshape(shape), weights };
}
