import { inspect } from "node:util";
import { isGated } from "../../core/activation.js";
import { unexpected } from "../../core/errors.js";
import { checkOwnClass } from "../../core/own_class.js";
import type { Shape } from "../../core/shape.js";
import { Tensor } from "../../core/tensor.js";
import { isUnwritten, markUnwritten, markWritten } from "../../core/unwritten.js";
import { permute } from "../../operators/experts/permute.js";
import type { DeviceLayer } from "../device_layer.js";
import type { RouterWeights } from "../router/router_weights.js";
import type { ExpertWeights } from "../weights/expert_weights.js";
import {
  extraWeights,
  isLatentRole,
  latentRoles,
  type TrainedRole,
  trainedRouterRoles,
} from "../weights/extra_weights.js";
import type { LatentProjections } from "../weights/latent_projections.js";
import { copyAll } from "./copy_all.js";

/** One expert's: views of the memory of all experts. */
export type ExpertTensors = ExpertWeights<Tensor<"f32">, Tensor<"f32">>;

/** Those of a weight of the router's side. */
export interface ProjectionTensors {
  readonly weight: Tensor<"f32">;
  readonly bias: Tensor<"f32"> | undefined;
}

/**
 * The weights of a router's side: projections of the gates and of their noise, and what scales inputs and weights. And what
 * leads to the experts and back.
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

/** Which of them: backward writes to the latter alone. */
export type TensorKind = "weights" | "gradients";

/** The tensors of all experts A of a layer of the device, shared ones included. */
export interface ExpertMemory {
  /** [A, P, H] */
  readonly gateUp: Tensor<"f32">;
  /** [A, I, H] */
  readonly multiplier: Tensor<"f32"> | undefined;
  /** [A, H, I] */
  readonly down: Tensor<"f32">;
  /** [A, P] and [A, H] */
  readonly gateUpBias: Tensor<"f32"> | undefined;
  readonly downBias: Tensor<"f32"> | undefined;
}

/**
 * Float32 tensors named and shaped like what {@link MoeLayer.create} takes: the gradients of a layer's weights, which
 * {@link MoeLayer.backward} makes or adds to, or the weights that training changes ({@link MoeLayer.parameters}).
 */
export class LayerTensors implements Disposable {
  /** Of the bank's experts. */
  readonly experts: readonly ExpertTensors[] | undefined;
  /** Of the shared expert. */
  readonly shared: ExpertTensors | undefined;
  readonly #layer: DeviceLayer;
  readonly #parts: TensorParts;
  readonly #kind: TensorKind;
  readonly #memory = new Map<DeviceLayer, ExpertMemory>();
  readonly #projections: Partial<Record<ProjectionRole, ProjectionTensors>> = {};

  /** @internal Use {@link MoeLayer.backward} or {@link MoeLayer.parameters}. All begin as zeros. */
  constructor(owners: TensorOwners, dtype: "f32", parts: TensorParts, kind: TensorKind) {
    checkOwnClass(new.target, LayerTensors);
    const { onDevice: layer, routed, expertLayers, projections } = owners;
    const routers = owners.router.weights;
    this.#layer = layer;
    this.#parts = parts;
    this.#kind = kind;
    const { device, description, record } = layer;
    const { numExperts, hiddenSize, sharedGate } = description;
    const projection = (role: ProjectionRole, shape: Shape, bias: boolean) => {
      const weight = device.zeros(shape, dtype);
      this.#projections[role] = { weight, bias: bias ? device.zeros(shape.slice(0, 1), dtype) : undefined };
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
      const rows = sharedGate === "sigmoid" ? 1 : 2;
      projection("sharedGate", [rows, hiddenSize], record.hasBias("layer", "sharedGateBias"));
    }
    if (parts.experts) {
      for (const each of expertLayers) this.#memory.set(each, expertMemory(each, dtype));
      const memory = this.#memory.get(routed) as ExpertMemory;
      const { count } = routed.description.bank;
      this.experts = Array.from({ length: count }, (_, expert) => views(routed, memory, "experts", expert));
      const ofShared = this.#memory.get(layer);
      this.shared = ofShared && sharedGradients(layer, ofShared);
    }
    Object.freeze(this);
  }

  /** True only for real ones. */
  static [Symbol.hasInstance](value: unknown): value is LayerTensors {
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
    return views(layer, this.#memory.get(layer) as ExpertMemory, owner, expert);
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
    const hasParts = parts.experts === this.#parts.experts && (this.#parts.routers || !parts.routers);
    if (layer === this.#layer && hasParts && this.#kind === "gradients") {
      for (const tensor of this.#tensors()) void tensor.handle;
      return;
    }
    const ofThis = this.#kind === "weights" ? "weights" : "some of other parts";
    const got = layer === this.#layer ? ofThis : "some of another layer";
    throw unexpected("gradients", "those of a like backward of this layer", got);
  }

  /**
   * @internal After the memory of all experts was written: zeros for biases that experts do not have, and the shared
   * expert's tensors, if they do not lie there as given.
   */
  gather(): void {
    for (const [layer, memory] of this.#memory) clearAbsentBiases(layer, memory);
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

function expertMemory(layer: DeviceLayer, dtype: "f32"): ExpertMemory {
  const { device, description } = layer;
  const { bank, sharedExperts, intermediateSize, hiddenSize, activation, multiplier } = description;
  const experts = bank.count + sharedExperts;
  const inner = (isGated(activation) ? 2 : 1) * intermediateSize;
  const memory = (...shape: Shape) => device.zeros([experts, ...shape], dtype);
  return {
    gateUp: memory(inner, hiddenSize),
    multiplier: multiplier ? memory(intermediateSize, hiddenSize) : undefined,
    down: memory(hiddenSize, intermediateSize),
    gateUpBias: layer.hasExpertBias("gateBias") || layer.hasExpertBias("upBias") ? memory(inner) : undefined,
    downBias: layer.hasExpertBias("downBias") ? memory(hiddenSize) : undefined,
  };
}

/** Some of the rows of a matrix or a vector for every expert, as one expert has them. */
function part(all: Tensor<"f32">, expert: number, first: number, count: number): Tensor<"f32"> {
  const [experts, rows, ...rest] = all.shape as [number, number, ...number[]];
  using flat = all.reshape([experts * rows, ...rest]);
  return flat.rows(expert * rows + first, expert * rows + first + count);
}

function views(layer: DeviceLayer, memory: ExpertMemory, owner: "experts" | "shared", expert: number): ExpertTensors {
  const { intermediateSize, hiddenSize, activation } = layer.description;
  const { gateUp, multiplier, down, gateUpBias, downBias } = memory;
  const gated = isGated(activation);
  const has = (role: "gateBias" | "upBias" | "downBias") => layer.record.hasBias(owner, role);
  const up = gated ? intermediateSize : 0;
  return {
    ...(gated && { gate: part(gateUp, expert, 0, intermediateSize) }),
    up: part(gateUp, expert, up, intermediateSize),
    ...(multiplier && { multiplier: part(multiplier, expert, 0, intermediateSize) }),
    down: part(down, expert, 0, hiddenSize),
    ...(gated && gateUpBias && has("gateBias") && { gateBias: part(gateUpBias, expert, 0, intermediateSize) }),
    ...(gateUpBias && has("upBias") && { upBias: part(gateUpBias, expert, up, intermediateSize) }),
    ...(downBias && has("downBias") && { downBias: part(downBias, expert, 0, hiddenSize) }),
  };
}

/** Whether the shared expert is one of the experts as it is. */
function isOneExpert(layer: DeviceLayer): boolean {
  const { sharedExperts, intermediateSize } = layer.description;
  return sharedExperts === 1 && layer.sharedWidth === intermediateSize;
}

function sharedGradients(layer: DeviceLayer, memory: ExpertMemory): ExpertTensors | undefined {
  const { bank, sharedExperts, hiddenSize } = layer.description;
  if (sharedExperts === 0) return undefined;
  if (isOneExpert(layer)) return views(layer, memory, "shared", bank.count);
  const first = views(layer, memory, "shared", bank.count);
  const width = layer.sharedWidth;
  const shapes: Readonly<Record<string, Shape>> = {
    down: [hiddenSize, width],
    gateBias: [width],
    upBias: [width],
    downBias: [hiddenSize],
  };
  const own = Object.entries(first).map(([role, tensor]: [string, Tensor<"f32">]) => {
    const made = layer.device.zeros(shapes[role] ?? [width, hiddenSize], tensor.dtype);
    tensor.dispose();
    return [role, made];
  });
  return Object.fromEntries(own);
}

/**
 * If some expert has a bias, there is memory for it in all: those that have none keep zeros, and no gradient, or an optimiser
 * would give them one. The bias of the shared expert's output is the first one's alone, or it would be added once for each.
 */
function clearAbsentBiases({ description, record }: DeviceLayer, { gateUpBias, downBias }: ExpertMemory): void {
  const { bank, sharedExperts, intermediateSize, activation } = description;
  const inner = isGated(activation) ? (["gateBias", "upBias"] as const) : (["upBias"] as const);
  const ofInner: number[] = [];
  const ofDown: number[] = [];
  for (let expert = 0; expert < bank.count + sharedExperts; expert++) {
    const owner = expert < bank.count ? "experts" : "shared";
    inner.forEach((role, part) => {
      if (!record.hasBias(owner, role)) ofInner.push(expert * inner.length + part);
    });
    if (!record.hasBias(owner, "downBias") || expert > bank.count) ofDown.push(expert);
  }
  if (downBias) clearRows(downBias, ofDown);
  if (gateUpBias === undefined || ofInner.length === 0) return;
  using parts = gateUpBias.reshape([gateUpBias.size / intermediateSize, intermediateSize]);
  clearRows(parts, ofInner);
}

/** Writes zeros to rows, numbered in ascending order; neighbours at once. */
function clearRows(matrix: Tensor<"f32">, rows: readonly number[]): void {
  for (let first = 0, end = 1; end <= rows.length; end++) {
    const from = rows[first] as number;
    if (rows[end] === from + end - first) continue;
    using run = matrix.rows(from, from + end - first);
    using zeros = matrix.device.zeros(run.shape, run.dtype);
    copyAll(zeros, run);
    first = end;
  }
}

/** The shared expert's weights lie in several experts, side by side: columns of `down`, rows of the others. */
function gatherShared(layer: DeviceLayer, memory: ExpertMemory, shared: ExpertTensors): void {
  const { bank, sharedExperts, hiddenSize, intermediateSize } = layer.description;
  if (isOneExpert(layer)) return;
  const { device } = layer;
  const width = layer.sharedWidth;
  for (let index = 0; index < sharedExperts; index++) {
    const first = index * intermediateSize;
    const count = Math.min(intermediateSize, width - first);
    const source = views(layer, memory, "shared", bank.count + index);
    for (const [role, tensor] of Object.entries(source) as [keyof ExpertTensors, Tensor<"f32">][]) {
      const whole = shared[role] as Tensor<"f32">;
      if (role !== "down" && !(role === "downBias" && index > 0)) {
        using rows = role === "downBias" ? whole.rows(0, hiddenSize) : whole.rows(first, first + count);
        using given = tensor.rows(0, rows.shape[0] as number);
        copyAll(given, rows);
      }
      tensor.dispose();
    }
  }
  // Row h of all experts' down, one after another, is row h of the whole.
  const order = new Int32Array(hiddenSize * sharedExperts);
  for (let i = 0; i < order.length; i++) {
    order[i] = (bank.count + (i % sharedExperts)) * hiddenSize + Math.floor(i / sharedExperts);
  }
  using rowOrder = device.tensor(order);
  using all = memory.down.reshape([(bank.count + sharedExperts) * hiddenSize, intermediateSize]);
  using gathered = permute(all, rowOrder);
  const columns = sharedExperts * intermediateSize;
  const source = { handle: gathered.handle, rows: hiddenSize, columns: width, rowStride: columns, columnStride: 1 };
  device.backend.copyMatrix({ source, target: shared.down.handle });
}
