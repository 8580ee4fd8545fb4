import type { Tensor } from "../../core/tensor.js";
import type { TensorHandle } from "../../core/tensor_handle.js";
import { tokensOfExpert } from "../../operators/routing/expert_choice.js";
import type { Routing } from "../../operators/routing/gating.js";
import { sharedCapacity } from "../../operators/routing/limit_capacity.js";
import type { MoeLayerDescription } from "../description/config.js";
import { addsIdentity } from "../description/identity_experts.js";
import type { DeviceLayer } from "../device_layer.js";
import { RouterWeights } from "./router_weights.js";
import { emptyRouting, noisyGate, type RoutingStage, RoutingState, routingStages } from "./stages.js";
import type { GateName, Tokens } from "./tokens.js";
import type { GateLogits, NoiseSource } from "./training.js";

/** The stages of a routing. */
interface Stages {
  readonly plain: readonly RoutingStage[];
  /** With noise. */
  readonly training: readonly RoutingStage[];
}

/** A layer's routing: the weights that score experts, and the stages from x to ids and weights. */
export class Router {
  readonly weights: RouterWeights;
  readonly #description: MoeLayerDescription;
  readonly #whole: Stages;
  readonly #untilCapacity: Stages;
  readonly #untilScales: Stages;
  /** Whether the device's fused forward is the layer's whole forward (without noise), the routing included. */
  readonly fused: boolean;

  /** @param description of the whole layer, of whose experts `layer` may hold only the shared ones. */
  constructor(layer: DeviceLayer, description: MoeLayerDescription) {
    this.weights = new RouterWeights(layer);
    this.#description = description;
<<<<<<< HEAD
    this.#stages = routingStages(description, false, false);
    this.#trainingStages = routingStages(description, true, false);
=======
    this.#whole = stagesOf(description);
    this.#untilCapacity = stagesOf({ ...description, capacity: undefined, perExpertScale: false });
    this.#untilScales = stagesOf({ ...description, perExpertScale: false });
>>>>>>> small
    this.fused = isFused(description);
  }

  /**
   * Enqueues the layer's whole routing, capacity and expert choice included.
   * @param x what the router reads.
   * @param source source of the noise; default no noise.
   * @param out where to write; default new tensors.
   */
  route(x: TensorHandle, tokens: Tokens, source?: NoiseSource, out?: Routing): Routing {
<<<<<<< HEAD
    if (tokens.expertIds !== undefined) return this.#routeBy(this.#description, x, tokens, source, out);
    return this.#run(source === undefined ? this.#stages : this.#trainingStages, x, tokens, source, out);
=======
    return this.#run(this.#whole, x, tokens, source, out);
>>>>>>> small
  }

  /** What {@link route} chooses before `capacity` drops choices. */
  choose(x: TensorHandle, tokens: Tokens, source: NoiseSource | undefined): Routing {
<<<<<<< HEAD
    const rule = { ...this.#description, capacity: undefined, perExpertScale: false };
    return this.#routeBy(rule, x, tokens, source);
=======
    return this.#run(this.#untilCapacity, x, tokens, source);
>>>>>>> small
  }

  /** What {@link route} gives before the scales of experts multiply the weights. */
  unscaled(x: TensorHandle, tokens: Tokens, source: NoiseSource | undefined): Routing {
<<<<<<< HEAD
    const rule = { ...this.#description, perExpertScale: false };
    return this.#routeBy(rule, x, tokens, source);
=======
    return this.#run(this.#untilScales, x, tokens, source);
>>>>>>> small
  }

  /** A gate's logits for what the router reads. */
  logits(x: TensorHandle, tokens: Tokens, gate: GateName): Tensor<"f32"> {
    using normalised = this.weights.normalised(x, tokens);
    return this.weights.logits(normalised?.handle ?? x, tokens, gate);
  }

<<<<<<< HEAD
  #routeBy(
    rule: MoeLayerDescription,
    x: TensorHandle,
    tokens: Tokens,
    source: NoiseSource | undefined,
    out?: Routing,
  ): Routing {
    const stages = routingStages(rule, source !== undefined, tokens.expertIds !== undefined);
    return this.#run(stages, x, tokens, source, out);
  }

  #run(stages: readonly RoutingStage[], x: TensorHandle, tokens: Tokens, source?: NoiseSource, out?: Routing): Routing {
=======
  #run({ plain, training }: Stages, x: TensorHandle, tokens: Tokens, source?: NoiseSource, out?: Routing): Routing {
    const stages = source === undefined ? plain : training;
>>>>>>> small
    using state = new RoutingState(x, tokens, source);
    stages.forEach((stage, index) => {
      stage(state, this.weights, index === stages.length - 1 ? out : undefined);
    });
    return state.routing as Routing;
  }

  /** The logits of a gate with noisy gating, with and without noise. */
  noisyLogits(x: TensorHandle, tokens: Tokens, source: NoiseSource, gate: GateName): GateLogits {
    using normalised = this.weights.normalised(x, tokens);
    const read = normalised?.handle ?? x;
    const clean = this.weights.logits(read, tokens, gate);
    return { clean, ...noisyGate(read, clean, source, this.weights, gate) };
  }

  /** Memory for the router's logits of these tokens. */
  emptyLogits({ count, dtype }: Tokens): Tensor<"f32"> {
    return this.weights.device.empty([count, this.#description.numExperts], dtype);
  }

  /** Memory for the routing that {@link route} writes for these tokens. */
  emptyRouting(tokens: Tokens): Routing {
    return emptyRouting(this.weights, tokens);
  }

  /** Upper bound on the choices that fall on experts of the layer's bank, which limits the memory that devices need. */
  mostChoices({ count, sequenceLength, expertIds }: Tokens): number {
    const { capacity, expertChoice: amount, numExperts, topK, bank, hashRouting } = this.#description;
    if (amount !== undefined) return bank.count * tokensOfExpert(amount, count, numExperts);
    // What does not choose may have an expert several times for a token.
    const most = count * (hashRouting || expertIds ? topK : Math.min(topK, bank.count));
    if (capacity === undefined) return most;
    const shared = sharedCapacity(capacity, count, sequenceLength, topK, numExperts);
    const sequences = shared.length === 0 ? 0 : count / shared.length;
    return Math.min(most, sequences * bank.count * shared.capacity);
  }

  free(): void {
    this.weights.free();
  }
}

function stagesOf(description: MoeLayerDescription): Stages {
  return { plain: routingStages(description, false), training: routingStages(description, true) };
}

function isFused(description: MoeLayerDescription): boolean {
  const { capacity, expertChoice, hierarchy, hashRouting, routerNorm, latent } = description;
  const options = [capacity, expertChoice, hierarchy, hashRouting, routerNorm, latent];
  const { separateRouterInput, perExpertScale } = description;
  const composed = options.some((option) => option !== undefined);
  return !composed && !separateRouterInput && !perExpertScale && !addsIdentity(description);
}
