import { inspect } from "node:util";
import { checkOwnClass } from "../../core/device/own_class.js";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { MoeError } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { HostTensor, hasOwnMemory } from "../../core/tensors/host_tensor.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { DeviceLayer } from "../device_layer.js";
import { type Norm, normalised } from "../forward/norm_and_residual.js";
import { routingViews } from "../router/routing_views.js";
import type { Tokens } from "../router/tokens.js";
import type { NoiseSource } from "../router/training.js";

/** What a forward keeps for its backward pass. */
export interface SavedPass {
  readonly layer: DeviceLayer;
  /** The layer's weights must still be these. */
  readonly version: number;
  /** As given: [T, H] or [B, S, H]. */
  readonly shape: Shape;
  /** [T, H], in the caller's memory, or normalised in its own. */
  readonly x: Tensor<FloatDType>;
  /** [T, H], what the router read instead of x, in the caller's memory; undefined if it read x. */
  readonly routerInput: Tensor<FloatDType> | undefined;
  /** The norm that gave x of the caller's tokens [T, H]; undefined: there was none. */
  readonly norm: SavedNorm | undefined;
  /** Whether the caller's tokens were added to the outputs. */
  readonly addsTokens: boolean;
  readonly tokens: Tokens;
  readonly training: NoiseSource | undefined;
  readonly routing: Routing;
  /** Whether the caller gave the routing. */
  readonly given: boolean;
  /** [R, P] and [R, I], the rows before the activation; undefined if they are to be computed again. */
  readonly pre?: Tensor<FloatDType> | undefined;
  readonly multiplied?: Tensor<FloatDType> | undefined;
  /** The same for the shared experts of a layer with `latent`. */
  readonly sharedPre?: Tensor<FloatDType> | undefined;
  readonly sharedMultiplied?: Tensor<FloatDType> | undefined;
  /** [T, L], the sums of its routed experts. */
  readonly sums?: Tensor<FloatDType> | undefined;
}

/** What the router of a pass read [T, H]. */
export function readByRouter({ routerInput, x }: SavedPass): Tensor<FloatDType> {
  return routerInput ?? x;
}

/** A norm, and what it was applied to, in the caller's memory. */
export interface SavedNorm extends Norm {
  readonly tokens: Tensor<FloatDType>;
}

/** Tensors of a pass that may be in the host's memory meanwhile. */
const movable = ["x", "pre", "multiplied", "sharedPre", "sharedMultiplied", "sums"] as const;
type Movable = (typeof movable)[number];

/** What is kept; without x if it is to be normalised again. */
export type KeptPass = Omit<SavedPass, Movable> & {
  readonly [Name in Movable]?: Tensor<FloatDType> | HostTensor<FloatDType> | undefined;
};

/** Moves what is kept of the rows, and tokens that were normalised, to the host's memory if the device has its own. */
export function movedToHost(pass: SavedPass): KeptPass {
  if (!hasOwnMemory(pass.layer.device)) return pass;
  const isGiven = (name: Movable) => name === "x" && pass.norm === undefined;
  return { ...pass, ...moveEach(pass, (tensor, name) => (isGiven(name) ? undefined : new HostTensor(tensor))) };
}

/** What `move` makes of a pass's tensors. Those it has moved are freed once it has moved all, else what it has made. */
function moveEach<From extends Disposable, To extends Disposable>(
  pass: { readonly [Name in Movable]?: From | undefined },
  move: (tensor: From, name: Movable) => To | undefined,
): { [Name in Movable]?: To } {
  const moved: { [Name in Movable]?: To } = {};
  try {
    for (const name of movable) {
      const tensor = pass[name];
      const made = tensor && move(tensor, name);
      if (made) moved[name] = made;
    }
  } catch (error) {
    for (const made of Object.values(moved)) made[Symbol.dispose]();
    throw error;
  }
  for (const name of movable) if (moved[name]) pass[name]?.[Symbol.dispose]();
  return moved;
}

/**
 * What `forward(x, { save: true })` keeps for {@link MoeLayer.backward}: x, `routerInput`, `tokenIds` and `expertIds` (not
 * copies: do not write to them before), the rows before the activation ([T · k, 2I] or, if the activation is not gated, [T ·
 * k, I], in x's dtype), and ids and weights of the routing; with `norm` also the normalised tokens, of a layer with `latent`
 * also the sums [T, L] of its routed experts. With `recompute: true` all but the rows and the normalised tokens. With
 * `offload: true` all but these as they were given is in the host's memory until then. `backward`
 * frees it, and so does `dispose()`.
 */
export class LayerState extends ThreadBound implements Disposable {
  #pass: KeptPass | undefined;
  #used = false;

  /** @internal Use `forward(x, { save: true })`. */
  constructor(pass: KeptPass) {
    super();
    checkOwnClass(new.target, LayerState);
    this.#pass = pass;
  }

  /** True only for real states. */
  static override [Symbol.hasInstance](value: unknown): value is LayerState {
    return typeof value === "object" && value !== null && #pass in value;
  }

  /** Bytes on the device, without x and without a routing or expert ids that the caller gave; 0 once it is freed. */
  get byteLength(): number {
    return bytesOf(this.#own().filter((tensor) => !(tensor instanceof HostTensor)));
  }

  /** Bytes that `offload: true` has moved to the host's memory; 0 on `cpu` and `reference`, whose memory that is. */
  get hostByteLength(): number {
    return bytesOf(this.#own().filter((tensor) => tensor instanceof HostTensor));
  }

  #own(): readonly (Tensor | HostTensor | undefined)[] {
    if (this.#pass === undefined) return [];
    const { routing, given, norm, x, tokens, layer, ...kept } = this.#pass;
    const rows = movable.map((name) => (name === "x" ? norm && x : kept[name]));
    // What `capacity` leaves of given ids are others.
    const idsGiven = given || (tokens.expertIds !== undefined && layer.description.capacity === undefined);
    return [...rows, ...(idsGiven ? [] : [routing.ids]), ...(given ? [] : [routing.weights])];
  }

  /** @internal Views of the routing, for the caller. */
  routing(): Routing | undefined {
    return this.#pass && routingViews(this.#pass.routing);
  }

  /** Whether it was freed, by a backward pass or {@link dispose}. */
  get disposed(): boolean {
    return this.#pass === undefined;
  }

  /** @internal The shape of x and y. @throws DISPOSED, INVALID_ARGUMENT. */
  shapeFor(layer: DeviceLayer): Shape {
    return this.#check(layer).shape;
  }

  /** @internal Whether the caller gave the routing. */
  get routingGiven(): boolean {
    return this.#pass?.given ?? false;
  }

  /** @internal The norm that the forward was given. */
  get norm(): SavedNorm | undefined {
    return this.#pass?.norm;
  }

  /**
   * @internal Hands over what was kept; the caller frees it.
   * @throws DISPOSED, INVALID_ARGUMENT, OUT_OF_MEMORY.
   */
  take(layer: DeviceLayer): SavedPass {
    const kept = this.#check(layer);
    const back = moveEach(kept, (tensor) => (tensor instanceof HostTensor ? tensor.toDevice() : undefined));
    const onDevice = { ...kept, ...back } as Omit<SavedPass, "x"> & Partial<Pick<SavedPass, "x">>;
    const norm = kept.norm as SavedNorm;
    const pass = { ...onDevice, x: onDevice.x ?? normalised(norm.tokens, norm) };
    this.#pass = undefined;
    this.#used = true;
    return pass;
  }

  #check(layer: DeviceLayer): KeptPass {
    const pass = this.#pass;
    if (pass === undefined) {
      const cause = this.#used ? "backward()" : "dispose()";
      throw new MoeError("DISPOSED", `state: used after ${cause}; each forward with save gives one for one backward`);
    }
    const expected = "state: expected one that a forward of this layer has saved";
    if (pass.layer !== layer) throw new MoeError("INVALID_ARGUMENT", `${expected}, got another layer's`);
    if (pass.version !== layer.record.version) {
      throw new MoeError("INVALID_ARGUMENT", `${expected} with its weights, which have been changed since`);
    }
    return pass;
  }

  /** Frees what was kept, without a backward pass. Idempotent. */
  dispose(): void {
    if (this.#pass !== undefined) freePass(this.#pass);
    this.#pass = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `LayerState of ${this.byteLength} bytes${this.disposed ? " (disposed)" : ""}`;
  }
}

function bytesOf(tensors: readonly (Tensor | HostTensor | undefined)[]): number {
  return tensors.reduce((total, tensor) => total + (tensor?.byteLength ?? 0), 0);
}

/** Frees what was kept; tokens, a norm's weight and a given routing are views of the caller's tensors. */
export function freePass({ routerInput, tokens, norm, routing, training, ...kept }: KeptPass): void {
  const ofRouter = [routerInput, tokens.ids, tokens.expertIds, training?.noise, training?.groupNoise];
  const inputs = [...ofRouter, norm?.tokens, norm?.weight];
  const rows = movable.map((name) => kept[name]);
  for (const tensor of [...inputs, routing.ids, routing.weights, ...rows]) tensor?.dispose();
}
