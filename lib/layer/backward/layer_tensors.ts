import { inspect } from "node:util";
import { checkOwnClass } from "../../core/device/own_class.js";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { unexpected } from "../../core/errors.js";
import { sharedGateRows } from "../../core/layer/shared_gate.js";
import { Made } from "../../core/tensors/made.js";
import type { Shape } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { isUnwritten, markUnwritten, markWritten } from "../../core/tensors/unwritten.js";
import { copyAll } from "../../operators/copy_all.js";
import type { DeviceLayer } from "../device_layer.js";
import type { RouterWeights } from "../router/router_weights.js";
import {
  extraWeights,
  isLatentRole,
  latentRoles,
  type TrainedRole,
  trainedRouterRoles,
} from "../weights/extra_weights.js";
import type { LatentProjections } from "../weights/latent_projections.js";
import {
  clearAbsent,
  type ExpertMemory,
  type ExpertTensors,
  expertMemory,
  expertViews,
  gatherShared,
  sharedGradients,
} from "./expert_memory.js";

/** The tensors of a weight outside the experts. */
export interface ProjectionTensors {
  readonly weight: Tensor<"f32">;
  readonly bias: Tensor<"f32"> | undefined;
}

/**
 * The weights outside the experts: projections of the gates and of their noise, what scales inputs and weights, and what
 * leads to experts on a projection and back.
 */
export type ProjectionRole = "router" | "sharedGate" | TrainedRole;

/** Which parts of a layer there are tensors for. */
export interface TensorParts {
  /** The experts and the shared expert. */
  readonly experts: boolean;
  /** The routers; without them for the gradients of a forward whose routing was given. */
  readonly routers: boolean;
}

/** What of a layer its tensors are made for, as LayerParts names it. */
export interface TensorOwners {
  readonly onDevice: DeviceLayer;
  readonly routed: DeviceLayer;
  readonly expertLayers: readonly DeviceLayer[];
  readonly router: { readonly weights: RouterWeights };
  readonly projections: LatentProjections | undefined;
}

/** What the tensors are; backward writes to gradients alone. */
export type TensorKind = "weights" | "gradients";

/**
 * Float32 tensors named and shaped like what {@link MoeLayer.create} takes: the gradients of a layer's weights, which
 * {@link MoeLayer.backward} makes or adds to, or the weights that training changes ({@link MoeLayer.parameters}).
 */
export class LayerTensors extends ThreadBound implements Disposable {
  /** The tensors of the bank's experts. */
  readonly experts: readonly ExpertTensors[] | undefined;
  /** The tensors of the shared expert. */
  readonly shared: ExpertTensors | undefined;
  readonly #layer: DeviceLayer;
  readonly #parts: TensorParts;
  readonly #kind: TensorKind;
  readonly #memory = new Map<DeviceLayer, ExpertMemory>();
  readonly #projections: Partial<Record<ProjectionRole, ProjectionTensors>> = {};

  /** @internal Use {@link MoeLayer.backward} or {@link MoeLayer.parameters}. All begin as zeros. */
  constructor(owners: TensorOwners, dtype: "f32", parts: TensorParts, kind: TensorKind) {
    super();
    checkOwnClass(new.target, LayerTensors);
    const { onDevice: layer, routed, expertLayers, projections } = owners;
    const routers = owners.router.weights;
    this.#layer = layer;
    this.#parts = parts;
    this.#kind = kind;
    const { device, description, record } = layer;
    const { numExperts, hiddenSize, sharedGate } = description;
    using made = new Made();
    const zeros = (shape: Shape) => made.own(device.zeros(shape, dtype));
    const projection = (role: ProjectionRole, shape: Shape, bias: boolean) => {
      this.#projections[role] = { weight: zeros(shape), bias: bias ? zeros(shape.slice(0, 1)) : undefined };
    };
    const shapes = new Map(extraWeights(description).map(({ role, shape }) => [role, shape]));
    if (parts.routers) {
      projection("router", [numExperts, hiddenSize], record.hasBias("layer", "routerBias"));
      for (const role of trainedRouterRoles) {
        const shape = shapes.get(role);
        if (shape === undefined || role.endsWith("Bias") || routers.extra(role) === undefined) continue;
        projection(role, shape, role === "groupRouter" && routers.extra("groupRouterBias") !== undefined);
      }
    }
    for (const role of latentRoles) {
      if (projections?.weight(role) instanceof Tensor) projection(role, shapes.get(role) as Shape, false);
    }
    if (sharedGate !== "none") {
      const rows = sharedGateRows(sharedGate);
      projection("sharedGate", [rows, hiddenSize], record.hasBias("layer", "sharedGateBias"));
    }
    if (parts.experts) {
      for (const each of expertLayers) {
        const memory = expertMemory(each, dtype);
        for (const tensor of Object.values(memory) as (Tensor | undefined)[]) made.own(tensor);
        this.#memory.set(each, memory);
      }
      const memory = this.#memory.get(routed) as ExpertMemory;
      const { count } = routed.description.bank;
      this.experts = Array.from({ length: count }, (_, expert) => expertViews(routed, memory, "experts", expert));
      const ofShared = this.#memory.get(layer);
      this.shared = ofShared && sharedGradients(layer, ofShared);
    }
    made.returned(this);
    Object.freeze(this);
  }

  /** True only for real ones. */
  static override [Symbol.hasInstance](value: unknown): value is LayerTensors {
    return typeof value === "object" && value !== null && #layer in value;
  }

  /** [E, H]; undefined if the routing was given. */
  get router(): Tensor<"f32"> | undefined {
    return this.#projections.router?.weight;
  }

  /** [E] */
  get routerBias(): Tensor<"f32"> | undefined {
    return this.#projections.router?.bias;
  }

  /** [E, H] */
  get noiseRouter(): Tensor<"f32"> | undefined {
    return this.#projections.noiseRouter?.weight;
  }

  /** [G, H] */
  get groupRouter(): Tensor<"f32"> | undefined {
    return this.#projections.groupRouter?.weight;
  }

  /** [G] */
  get groupRouterBias(): Tensor<"f32"> | undefined {
    return this.#projections.groupRouter?.bias;
  }

  /** [G, H] */
  get groupNoiseRouter(): Tensor<"f32"> | undefined {
    return this.#projections.groupNoiseRouter?.weight;
  }

  /** [H] */
  get routerNormWeight(): Tensor<"f32"> | undefined {
    return this.#projections.routerNormWeight?.weight;
  }

  /** [E] */
  get expertScale(): Tensor<"f32"> | undefined {
    return this.#projections.expertScale?.weight;
  }

  /** [1, H], or [2, H] for a softmax. */
  get sharedGate(): Tensor<"f32"> | undefined {
    return this.#projections.sharedGate?.weight;
  }

  /** [1] or [2] */
  get sharedGateBias(): Tensor<"f32"> | undefined {
    return this.#projections.sharedGate?.bias;
  }

  /** [L, H]; undefined if the projection is quantised. */
  get latentDown(): Tensor<"f32"> | undefined {
    return this.#projections.latentDown?.weight;
  }

  /** [H, L]; undefined if the projection is quantised. */
  get latentUp(): Tensor<"f32"> | undefined {
    return this.#projections.latentUp?.weight;
  }

  /** [L] */
  get latentNormWeight(): Tensor<"f32"> | undefined {
    return this.#projections.latentNormWeight?.weight;
  }

  /** @internal */
  projection(role: ProjectionRole): ProjectionTensors | undefined {
    return this.#projections[role];
  }

  /** @internal Those that there are. */
  get projectionRoles(): readonly ProjectionRole[] {
    return Object.keys(this.#projections) as ProjectionRole[];
  }

  /** @internal An expert's tensors, numbered in its layer with the shared ones last; for the caller to dispose of. */
  viewsOf(layer: DeviceLayer, expert: number): ExpertTensors {
    const owner = expert < layer.description.bank.count ? "experts" : "shared";
    return expertViews(layer, this.#memory.get(layer) as ExpertMemory, owner, expert);
  }

  /** Bytes of all tensors. */
  get byteLength(): number {
    const all = [...Object.values(this.#projections), ...this.#memory.values()];
    const tensors = all.flatMap((group) => Object.values(group) as (Tensor | undefined)[]);
    return tensors.reduce((total, tensor) => total + (tensor?.byteLength ?? 0), 0);
  }

  /** @internal That of the experts of a layer of the device; undefined if experts have none. */
  memoryOf(layer: DeviceLayer): ExpertMemory | undefined {
    return this.#memory.get(layer);
  }

  /**
   * @internal Routers may be there without need.
   * @throws INVALID_ARGUMENT unless these are gradients of these parts of this layer; DISPOSED.
   */
  checkFor(layer: DeviceLayer, parts: TensorParts): void {
    const got = this.#differenceFrom(layer, parts);
    if (got !== undefined) throw unexpected("gradients", "those of a like backward of this layer", got);
    for (const tensor of this.#tensors()) void tensor.handle;
  }

  /** What these are if they are not gradients of a layer's parts, and what to do about it. */
  #differenceFrom(layer: DeviceLayer, parts: TensorParts): string | undefined {
    if (layer !== this.#layer) return "some of another layer";
    if (this.#kind === "weights") return "weights";
    const { experts, routers } = this.#parts;
    if (experts !== parts.experts) {
      return `some ${experts ? "with" : "without"} experts; give parameters and backward the same option experts`;
    }
    return parts.routers && !routers ? "some without routers, of a forward whose routing was given" : undefined;
  }

  /**
   * @internal After the memory of all experts was written: zeros for biases that experts do not have and beyond the shared
   * expert's width, and the shared expert's tensors, if they do not lie there as given.
   */
  gather(): void {
    for (const [layer, memory] of this.#memory) clearAbsent(layer, memory);
    const memory = this.#memory.get(this.#layer);
    if (memory && this.shared) gatherShared(this.#layer, memory, this.shared);
  }

  /** @internal Says that all these gradients are still to be computed. */
  markUnwritten(): void {
    for (const tensor of this.#tensors()) markUnwritten(tensor);
  }

  /**
   * @internal Says that the gradients of these parts have been computed. Those of routers that were not, because the routing
   * was given, stay if others were added, and else become zeros, if they have ever been computed.
   */
  markWritten(parts: TensorParts, accumulated: boolean): void {
    const ofRouters = ([role]: [string, unknown]) => role !== "sharedGate" && !isLatentRole(role);
    const routers = parts.routers ? [] : Object.entries(this.#projections).filter(ofRouters);
    const skipped = new Set(routers.flatMap(([, { weight, bias }]) => (bias ? [weight, bias] : [weight])));
    for (const tensor of this.#tensors()) if (!skipped.has(tensor as Tensor<"f32">)) markWritten(tensor);
    for (const tensor of skipped) {
      if (accumulated || isUnwritten(tensor)) continue;
      using zeros = tensor.device.zeros(tensor.shape, tensor.dtype);
      copyAll(zeros, tensor);
    }
  }

  /** Frees all tensors. Idempotent. */
  dispose(): void {
    for (const tensor of this.#tensors()) tensor.dispose();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  *#tensors(): Iterable<Tensor> {
    const experts = [...(this.experts ?? []), ...(this.shared ? [this.shared] : [])];
    const groups = [...Object.values(this.#projections), ...this.#memory.values(), ...experts];
    for (const group of groups) {
      for (const tensor of Object.values(group)) if (tensor instanceof Tensor) yield tensor;
    }
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const parts = [this.#parts.routers ? "router" : undefined, this.#parts.experts ? "experts" : undefined];
    return `LayerTensors of ${parts.filter(Boolean).join(" and ") || "nothing"} on ${this.#layer.device.name}`;
  }
}
