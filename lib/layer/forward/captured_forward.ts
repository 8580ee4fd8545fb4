import { inspect } from "node:util";
import type { CapturedHandle } from "../../core/device/backend.js";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { MoeError } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { shapeText } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { LayerParts } from "../layer_parts.js";
import type { Router } from "../router/router.js";
import { checkTokens, type Tokens, withGiven } from "../router/tokens.js";
import type { IdentityExperts } from "./identity_experts.js";
import { checkNorm, type Norm, type NormOption, normalised } from "./norm_and_residual.js";

/** Options of {@link MoeLayer.capture}. */
export interface CaptureOptions<D extends FloatDType = FloatDType> {
  /** Dtype of x and y; default that of the experts' weights. */
  dtype?: D | undefined;
  /** The norm in front of the layer, as in MoeLayer.forward; every replay enqueues it first. */
  norm?: NormOption | undefined;
  /** Whether x is added to y; default false. */
  residual?: boolean | undefined;
  /**
   * Whether the experts are given, as in MoeLayer.forward: the capture then has `expertIds`, to be written as x. Default false.
   */
  expertIds?: boolean | undefined;
  /** Whether the router's logits are given, as in MoeLayer.forward: the capture then has `logits`, to be written as x. Default false. */
  logits?: boolean | undefined;
}

/**
 * A layer's forward over fixed memory, made by MoeLayer.capture to run many times: write tokens into `x`, call
 * `replay()`, read `y`. The results are bit for bit those of `forward`.
 *
 * On `cuda` a replay launches one CUDA graph instead of the forward's individual kernels; on `simt` it repeats the
 * recorded launches. `cpu` and `reference` record nothing: a replay is a `forward` from `x` to `y`. If the layer has
 * `capacity`, `expertChoice`, `hierarchy`, `hashRouting`, `routerNorm`, `separateRouterInput`, `perExpertScale` or
 * `identityExperts`, or is captured with `expertIds`, every replay enqueues the routing first; of a layer with `latent`,
 * nothing is recorded on any device.
 */
export class CapturedForward<D extends FloatDType = FloatDType> extends ThreadBound implements Disposable {
  readonly #x: Tensor<D>;
  readonly #y: Tensor<D>;
  #handle: CapturedHandle | undefined;
  readonly #routerInput: Tensor<D> | undefined;
  readonly #tokenIds: Tensor<"i32"> | undefined;
  readonly #expertIds: Tensor<"i32"> | undefined;
  readonly #logits: Tensor<"f32"> | undefined;
  readonly #router: CapturedRouter | undefined;
  readonly #identity: CapturedIdentity | undefined;
  readonly #norm: { readonly norm: Norm; readonly out: Tensor<D> } | undefined;

  /** @internal Use MoeLayer.capture. */
  constructor(
    { device, onDevice, router, bank }: LayerParts,
    { tokens: count, dtype, norm, residual, expertIds, logits }: CaptureGiven<D>,
  ) {
    super();
    const { hiddenSize, numExperts, topK, separateRouterInput, hashRouting } = onDevice.description;
    const empty = () => device.empty([count, hiddenSize], dtype);
    const x = empty();
    this.#x = x;
    try {
      if (norm !== undefined) checkNorm(norm, x);
      this.#y = empty();
      if (norm !== undefined) {
        const out = empty();
        this.#norm = { norm: { ...norm, weight: norm.weight.reshape(norm.weight.shape) }, out };
      }
      const input = this.#norm?.out ?? x;
      if (logits) this.#logits = device.zeros([count, numExperts], checkTokens(onDevice, x).dtype);
      else if (separateRouterInput) this.#routerInput = empty();
      if (expertIds) this.#expertIds = device.tensor(new Int32Array(count * topK).fill(-1), [count, topK]);
      else if (hashRouting) this.#tokenIds = device.zeros([count], "i32");
      const read = this.#routerInput ?? input;
      const given = { ids: this.#tokenIds, expertIds: this.#expertIds, logits: this.#logits };
      const tokens = withGiven(checkTokens(onDevice, read), given);
      if (expertIds || !router.fused) this.#router = new CapturedRouter(router, read, tokens);
      const { routing, maxChoices = -1 } = this.#router ?? {};
      if (bank.identity && routing) this.#identity = new CapturedIdentity(bank.identity, input, routing, residual && x);
      const added = this.#identity?.outputs.handle ?? (residual ? x.handle : undefined);
      const pass = { x: input.handle, y: this.#y.handle, tokens, routing, maxChoices, residual: added };
      this.#handle = bank.capture(pass);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** The tokens [T, H], initially undefined. Fill it with `x.write(values)` or as the `out` of an operator. */
  get x(): Tensor<D> {
    return this.#x;
  }

  /**
   * What the router reads [T, H], of x's dtype and filled as x; undefined for a layer without `separateRouterInput` and if the
   * logits are given.
   */
  get routerInput(): Tensor<D> | undefined {
    return this.#routerInput;
  }

  /**
   * The ids of the tokens [T] i32, zeros until it is filled as x; undefined for a layer without `hashRouting` and if the
   * experts are given.
   */
  get tokenIds(): Tensor<"i32"> | undefined {
    return this.#tokenIds;
  }

  /** The experts of the tokens [T, topK] i32, -1 until it is filled as x; undefined if they are not given. */
  get expertIds(): Tensor<"i32"> | undefined {
    return this.#expertIds;
  }

  /** The router's logits [T, E] f32, zeros until they are filled as x; undefined if they are not given. */
  get logits(): Tensor<"f32"> | undefined {
    return this.#logits;
  }

  /** The outputs [T, H] of the last replay; the next one overwrites them. */
  get y(): Tensor<D> {
    return this.#y;
  }

  /**
   * Enqueues y = layer(x), with the norm and the residual that it was captured with.
   * @throws DISPOSED, also if the replay has to enqueue the routing and the layer was disposed of.
   */
  replay(): void {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "captured forward: used after dispose()");
    void this.x.device.backend;
    if (this.#norm) normalised(this.#x, this.#norm.norm, this.#norm.out);
    this.#router?.route();
    this.#identity?.add();
    this.#handle.replay();
  }

  /**
   * Frees `x`, `y`, `routerInput`, `tokenIds`, `expertIds`, `logits` and the recording, once enqueued work no longer needs
   * them. Idempotent.
   */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
    this.#router?.dispose();
    this.#identity?.dispose();
    this.#norm?.out.dispose();
    this.#norm?.norm.weight.dispose();
    this.#routerInput?.dispose();
    this.#tokenIds?.dispose();
    this.#expertIds?.dispose();
    this.#logits?.dispose();
    this.#x.dispose();
    // Undefined if the constructor failed before it.
    this.#y?.dispose();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const { shape, dtype, device } = this.x;
    const state = this.#handle === undefined || device.disposed ? " (disposed)" : "";
    return `CapturedForward<${dtype}> ${shapeText(shape)} on ${device.name}${state}`;
  }
}

/** What a layer is captured with. */
interface CaptureGiven<D extends FloatDType> {
  /** T. */
  readonly tokens: number;
  /** The dtype of x and y. */
  readonly dtype: D;
  readonly norm: Norm | undefined;
  readonly residual: boolean;
  /** Whether the experts are given. */
  readonly expertIds: boolean;
  /** Whether the logits are given. */
  readonly logits: boolean;
}

/** Enqueues the routing of fixed memory into fixed memory. */
class CapturedRouter {
  readonly routing: Routing;
  readonly maxChoices: number;
  readonly #router: Router;
  readonly #x: TensorHandle;
  readonly #tokens: Tokens;

  constructor(router: Router, x: Tensor<FloatDType>, tokens: Tokens) {
    this.routing = router.emptyRouting(tokens);
    this.maxChoices = router.mostChoices(tokens);
    this.#router = router;
    this.#x = x.handle.view(x.shape, 0);
    this.#tokens = tokens;
  }

  route(): void {
    this.#router.route(this.#x, this.#tokens, undefined, this.routing);
  }

  dispose(): void {
    this.#x.free();
    this.routing.ids.dispose();
    this.routing.weights.dispose();
  }
}

/** Enqueues what identity experts add to the outputs of fixed memory, with the residual if there is one. */
class CapturedIdentity {
  readonly outputs: Tensor<"f32">;
  readonly #experts: IdentityExperts;
  readonly #x: TensorHandle;
  readonly #routing: Routing;
  readonly #residual: TensorHandle | undefined;

  constructor(experts: IdentityExperts, x: Tensor<FloatDType>, routing: Routing, residual: Tensor<FloatDType> | false) {
    this.outputs = experts.emptyOutputs(x.shape[0] as number);
    this.#experts = experts;
    this.#x = x.handle.view(x.shape, 0);
    this.#routing = routing;
    if (residual) this.#residual = residual.handle.view(residual.shape, 0);
  }

  add(): void {
    this.#experts.outputs(this.#x, this.#routing, this.#residual, this.outputs);
  }

  dispose(): void {
    this.outputs.dispose();
    this.#x.free();
    this.#residual?.free();
  }
}
