import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
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

/** The stages of a routing, with noise or without, by experts that the router chooses or that are given. */
type Stages = (training: boolean, given: boolean) => readonly RoutingStage[];

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
    this.#whole = stagesFor(description);
    this.#untilCapacity = stagesFor({ ...description, capacity: undefined, perExpertScale: false });
    this.#untilScales = stagesFor({ ...description, perExpertScale: false });
    this.fused = isFused(description);
  }

  /**
   * Enqueues the layer's whole routing, capacity and expert choice included.
   * @param x what the router reads.
   * @param source source of the noise; default no noise.
   * @param out where to write; default new tensors.
   */
  route(x: TensorHandle, tokens: Tokens, source?: NoiseSource, out?: Routing): Routing {
    return this.#run(this.#whole, x, tokens, source, out);
  }

  /** What {@link route} chooses before `capacity` drops choices. */
  choose(x: TensorHandle, tokens: Tokens, source: NoiseSource | undefined): Routing {
    return this.#run(this.#untilCapacity, x, tokens, source);
  }

  /** What {@link route} gives before the scales of experts multiply the weights. */
  unscaled(x: TensorHandle, tokens: Tokens, source: NoiseSource | undefined): Routing {
    return this.#run(this.#untilScales, x, tokens, source);
  }

  /** A gate's logits for what the router reads. */
  logits(x: TensorHandle, tokens: Tokens, gate: GateName): Tensor<"f32"> {
    using normalised = this.weights.normalised(x, tokens);
    return this.weights.logits(normalised?.handle ?? x, tokens, gate);
  }

  #run(stagesOf: Stages, x: TensorHandle, tokens: Tokens, source?: NoiseSource, out?: Routing): Routing {
    const stages = stagesOf(source !== undefined, tokens.expertIds !== undefined);
    using state = new RoutingState(x, tokens, source);
    stages.forEach((stage, index) => {
      stage(state, this.weights, index === stages.length - 1 ? out : undefined);
    });
    return state.made.returned(state.routing as Routing);
  }

  /** The logits of a gate with noisy gating, with and without noise. */
  noisyLogits(x: TensorHandle, tokens: Tokens, source: NoiseSource, gate: GateName): GateLogits {
    using normalised = this.weights.normalised(x, tokens);
    const read = normalised?.handle ?? x;
    using made = new Made();
    const clean = made.own(this.weights.logits(read, tokens, gate));
    return made.returned({ clean, ...noisyGate(read, clean, source, this.weights, gate) });
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

function stagesFor(description: MoeLayerDescription): Stages {
  const of = (given: boolean) => [false, true].map((training) => routingStages(description, training, given));
  const [chosen, given] = [of(false), of(true)];
  return (training, isGiven) => (isGiven ? given : chosen)[Number(training)] as readonly RoutingStage[];
}

function isFused(description: MoeLayerDescription): boolean {
  const { capacity, expertChoice, hierarchy, hashRouting, routerNorm, latent } = description;
  const options = [capacity, expertChoice, hierarchy, hashRouting, routerNorm, latent];
  const { separateRouterInput, perExpertScale } = description;
  const composed = options.some((option) => option !== undefined);
  return !composed && !separateRouterInput && !perExpertScale && !addsIdentity(description);
}
