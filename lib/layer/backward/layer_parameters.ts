import { inspect } from "node:util";
import { checkOwnClass } from "../../core/device/own_class.js";
import { MoeError } from "../../core/errors.js";
import { boolean, type Fields, object, optional, type Read } from "../../core/input/options.js";
import type { WeightRole } from "../../core/layer/weight_role.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import type { Parameter } from "../../optimizers/parameter.js";
import type { LayerParts } from "../layer_parts.js";
import { isLatentRole, type TrainedRole } from "../weights/extra_weights.js";
import type { ExpertMemory } from "./expert_memory.js";
import { LayerTensors, type TensorKind } from "./layer_tensors.js";
import { checkCopied, trainsExperts } from "./matrices.js";

/** Options of {@link MoeLayer.parameters}. */
export interface ParametersOptions {
  /**
   * False: the experts are frozen, and only the routers are among the parameters. Give `backward` the same option. Default
   * true, but false for a layer with quantised experts.
   */
  experts?: boolean | undefined;
}

export const parametersOptions = object(
  { experts: optional(boolean) } satisfies Fields<ParametersOptions>,
  "{ experts: false }",
);

/**
 * The weights of a layer as training changes them: in float32, whatever the dtype in which the layer stores them, and
 * their gradients. An optimiser takes them as they are; after its step, the layer and the layouts of its backward pass
 * are packed again from the float32 weights. Quantised experts stay as they are, and others with `experts: false`: then
 * only the routers are among the parameters.
 *
 *     const parameters = layer.parameters();
 *     const optimizer = new AdamW(parameters, { learningRate: 1e-3 });
 *     const { y, state } = layer.forward(x, { save: true });
 *     const { dx } = layer.backward(state, dy, { gradients: parameters.gradients });
 *     optimizer.step();
 */
export class LayerParameters implements Iterable<Parameter>, Disposable {
  /** The weights. After changing them other than by an optimiser, call {@link changed}. */
  readonly weights: LayerTensors;
  /** Where backward is to write or add gradients. Until then they are zeros, and optimisers have nothing to step by. */
  readonly gradients: LayerTensors;
  readonly #parts: LayerParts;
  /** What the layer's count of packings was when these weights were its own. */
  #packings: number;

  /** @internal Use {@link MoeLayer.parameters}. */
  constructor(parts: LayerParts, dtype: "f32", options: Read<typeof parametersOptions>) {
    checkOwnClass(new.target, LayerParameters);
    // Checked before memory is taken: the layer's weights can be copied, and set.
    checkCopied(parts.routed);
    const which = { experts: trainsExperts(parts, options.experts), routers: true };
    const { onDevice, expertLayers } = parts;
    for (const layer of which.experts ? [onDevice, ...expertLayers] : [onDevice]) layer.checkSettable("parameters");
    if (which.experts) for (const layer of expertLayers) parts.backwardMatrices(layer);
    this.#parts = parts;
    using made = new Made();
    const tensors = (kind: TensorKind) => made.own(new LayerTensors(parts, dtype, which, kind));
    this.weights = tensors("weights");
    this.gradients = tensors("gradients");
    this.gradients.markUnwritten();
    copyWeights(parts, this.weights);
    this.#packings = parts.packedByParameters;
    made.returned(this);
    Object.freeze(this);
  }

  /**
   * Every weight by its name: all experts together, shared ones last; of a layer with `latent`, the shared ones apart, as
   * `shared`. A shared expert lies there as experts of the layer's width: what is beyond its own is zeros, which
   * {@link changed} restores.
   */
  *[Symbol.iterator](): Iterator<Parameter> {
    const changed = this.changed;
    for (const layer of this.#parts.expertLayers) {
      const [memory, gradients] = [this.weights.memoryOf(layer) ?? {}, this.gradients.memoryOf(layer)];
      const set = layer === this.#parts.routed ? "experts" : "shared";
      for (const [name, value] of Object.entries(memory) as [keyof ExpertMemory, Tensor<"f32"> | undefined][]) {
        if (value === undefined) continue;
        yield { name: `${set}.${name}`, value, gradient: gradients?.[name], changed };
      }
    }
    for (const role of this.weights.projectionRoles) {
      const [weight, gradient] = [this.weights.projection(role), this.gradients.projection(role)];
      if (weight === undefined) continue;
      yield { name: role, value: weight.weight, gradient: gradient?.weight, changed };
      if (weight.bias) yield { name: `${role}Bias`, value: weight.bias, gradient: gradient?.bias, changed };
    }
  }

  /**
   * Packs the weights again, in order with the enqueued work. Optimisers call it after each step.
   * @throws INVALID_ARGUMENT if other parameters of the layer have packed theirs since these were made: what they changed
   * would be lost. DISPOSED.
   */
  readonly changed = (): void => {
    if (this.#packings !== this.#parts.packedByParameters) {
      throw new MoeError(
        "INVALID_ARGUMENT",
        "parameters: expected those that have the layer's present weights, got older ones: other parameters() of this layer " +
          "have changed it since; go on with those, or make new ones with layer.parameters()",
      );
    }
    this.#packings = ++this.#parts.packedByParameters;
    const { bank, router, expertLayers } = this.#parts;
    this.weights.gather();
    for (const layer of expertLayers) {
      const memory = this.weights.memoryOf(layer);
      if (memory === undefined) continue;
      const matrices = this.#parts.backwardMatrices(layer);
      for (let expert = 0; expert < layer.expertCount; expert++) {
        const weights = this.weights.viewsOf(layer, expert);
        bank.renewExpert(layer, expert, weights);
        for (const view of Object.values(weights)) view.dispose();
        matrices.renew(expert, memory);
      }
      matrices.renewBiases(memory);
    }
    for (const role of this.weights.projectionRoles) {
      const { weight, bias } = this.weights.projection(role) as {
        weight: Tensor<"f32">;
        bias: Tensor<"f32"> | undefined;
      };
      if (role === "router") router.weights.set(weight, bias);
      else if (role === "sharedGate") bank.setSharedGate(weight, bias);
      else {
        this.#parts.setExtra(role, weight);
        if (bias) router.weights.setExtra("groupRouterBias", bias);
      }
    }
  };

  /** Bytes of weights and gradients. */
  get byteLength(): number {
    return this.weights.byteLength + this.gradients.byteLength;
  }

  /** Frees weights and gradients; the layer keeps its own packed ones. Idempotent. */
  dispose(): void {
    this.weights.dispose();
    this.gradients.dispose();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const names = [...this].map(({ name }) => name);
    return `LayerParameters ${names.join(", ")} on ${this.#parts.device.name}`;
  }
}

function copyWeights({ onDevice, expertLayers, router, projections }: LayerParts, weights: LayerTensors): void {
  for (const layer of expertLayers) {
    for (let expert = 0; weights.memoryOf(layer) !== undefined && expert < layer.expertCount; expert++) {
      for (const [role, view] of Object.entries(weights.viewsOf(layer, expert)) as [WeightRole, Tensor][]) {
        layer.handle.copyWeight(role, expert, view.handle);
        view.dispose();
      }
    }
  }
  weights.gather();
  const copyOf = (role: TrainedRole, target: Tensor) => {
    copyAll((isLatentRole(role) ? projections?.weight(role) : router.weights.extra(role)) as Tensor, target);
  };
  for (const role of weights.projectionRoles) {
    const { weight, bias } = weights.projection(role) as { weight: Tensor; bias: Tensor | undefined };
    if (role === "router" || role === "sharedGate") {
      onDevice.handle.copyWeight(role, 0, weight.handle);
      if (bias) onDevice.handle.copyWeight(`${role}Bias`, 0, bias.handle);
    } else {
      copyOf(role, weight);
      if (bias) copyOf("groupRouterBias", bias);
    }
  }
}
