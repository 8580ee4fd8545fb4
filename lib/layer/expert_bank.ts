import type { CapturedHandle, ExpertMatrices } from "../core/device/backend.js";
import { invalidArgument, requires } from "../core/errors.js";
import { inputFields, isPlain, weightFormat } from "../core/formats/weight_formats.js";
import { sharedGateRows } from "../core/layer/shared_gate.js";
import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { Routing } from "../operators/routing/gating.js";
import type { MoeLayerDescription } from "./description/config.js";
import { addsIdentity } from "./description/identity_experts.js";
import { type ExpertSet, formatsOf, matrixRoles } from "./description/storage.js";
import type { DeviceLayer } from "./device_layer.js";
import type { ForwardPass } from "./forward/forward_pass.js";
import { IdentityExperts } from "./forward/identity_experts.js";
import { latentForward } from "./forward/latent_forward.js";
import {
  checkExpert,
  disposeExpert,
  type ExpertMatrix,
  type ExpertWeights,
  expertShare,
  stackedExpert,
} from "./weights/expert_weights.js";
import { withInnerOrder } from "./weights/inner_order.js";
import type { LatentProjections } from "./weights/latent_projections.js";
import { setLinear, withMatrices } from "./weights/linear.js";
import { type Quantizing, withQuantized, withQuantizedWhole } from "./weights/quantizing.js";
import type { Weight } from "./weights/weight_layout.js";
import type { WeightRecord } from "./weights/weight_record.js";

/** What the experts of a layer are held by, as LayerParts names it. */
interface BankParts {
  readonly routed: DeviceLayer;
  readonly onDevice: DeviceLayer;
  readonly projections: LatentProjections | undefined;
}

/**
 * The experts that a layer holds: those of `description.bank`, plus the shared ones and those that return their input if
 * the bank begins with expert 0. Every setter checks its weights and enqueues a copy.
 */
export class ExpertBank {
  readonly #routed: DeviceLayer;
  /** Holds the shared experts; with `latent` another layer of the device than that of the routed ones. */
  readonly #onDevice: DeviceLayer;
  readonly #projections: LatentProjections | undefined;
  readonly #quantizing: Quantizing | undefined;
  /** Undefined if the bank adds none. */
  readonly identity: IdentityExperts | undefined;

  constructor({ routed, onDevice, projections }: BankParts, quantizing?: Quantizing) {
    this.#routed = routed;
    this.#onDevice = onDevice;
    this.#projections = projections;
    if (addsIdentity(routed.description)) this.identity = new IdentityExperts(routed);
    this.#quantizing = quantizing;
  }

  /** Sets the weights of one expert, numbered within the bank. */
  setExpert(expert: number, weights: ExpertWeights): void {
    const { device, description } = this.#routed;
    checkExpert(`experts[${expert}]`, weights, description, description.intermediateSize, device);
    this.#setShares(this.#routed, expert, weights, description.intermediateSize);
  }

  /** Sets the weights of all experts of the bank from stacked tensors. */
  setStacked(stacked: ExpertWeights): void {
    const { device, description } = this.#routed;
    const { bank, hiddenSize, intermediateSize } = description;
    checkExpert("experts", stacked, description, intermediateSize, device, bank.count);
    for (let expert = 0; expert < bank.count; expert++) {
      const weights = stackedExpert(stacked, expert, hiddenSize, intermediateSize);
      try {
        this.#setShares(this.#routed, expert, weights, intermediateSize);
      } finally {
        disposeExpert(weights);
      }
    }
  }

  /** Sets the weights of the shared expert, which is stored as ceil(width / intermediateSize) experts. */
  setShared(weights: ExpertWeights, width: number): void {
    const { device, description, record } = this.#onDevice;
    checkExpert("shared", weights, description, width, device);
    record.sharedWidth = width;
    this.#setShares(this.#onDevice, description.bank.count, weights, width);
  }

  /** Sets the shared expert's gate. */
  setSharedGate(weight: ExpertMatrix, bias?: Weight): void {
    const { device, description, handle, record } = this.#onDevice;
    const shape = [sharedGateRows(description.sharedGate), description.hiddenSize];
    setLinear(device, "sharedGate", shape, weight, bias, (matrix, vector) => {
      handle.setSharedGate(matrix, vector);
    });
    record.version++;
    if (bias !== undefined) record.addBias("layer", "sharedGateBias");
  }

  /** Checks that exactly the weights that the shared expert needs are given; the gate's bias may be left out. */
  checkShared(given: { readonly [Name in "shared" | "sharedGate" | "sharedGateBias"]: unknown }): void {
    const { sharedExperts, sharedGate, bank } = this.#onDevice.description;
    const bankWithShared = bank.first === 0 ? "sharedExpert" : "a bank that begins with expert 0";
    const needs = { shared: sharedExperts > 0, sharedGate: sharedGate !== "none" };
    for (const name of ["shared", "sharedGate"] as const) {
      if (needs[name] === (given[name] !== undefined)) continue;
      if (needs[name]) throw invalidArgument(name, "tensors for sharedExpert", given[name]);
      throw requires(name, name === "shared" || bank.first > 0 ? bankWithShared : "sharedExpert.gate");
    }
    if (given.sharedGateBias !== undefined && given.sharedGate === undefined) {
      throw requires("sharedGateBias", "sharedGate");
    }
  }

  /**
   * Enqueues y = the bank's share of the output for x under a routing.
   * @returns of a layer with `latent` the sums [T, L] of its routed experts, for the caller to dispose of.
   */
  forward(pass: ForwardPass): Tensor<FloatDType> | undefined {
    const [routed, onDevice, projections] = [this.#routed, this.#onDevice, this.#projections];
    if (projections !== undefined) return latentForward({ onDevice, routed, projections }, pass);
    const { x, routing, residual, kept } = pass;
    using identity = this.identity?.outputs(x, routing, residual);
    routed.forwardRouted({ ...pass, residual: identity?.handle ?? residual, rows: kept?.routed });
    return undefined;
  }

  /**
   * A forward over fixed tensors; without a routing, by the device's own, of the tokens' logits if these are given. With
   * `latent`, nothing of it is recorded.
   */
  capture(pass: Omit<ForwardPass, "routing"> & { readonly routing: Routing | undefined }): CapturedHandle {
    const { tokens, routing } = pass;
    const logits = routing === undefined ? tokens.logits : undefined;
    if (this.#projections === undefined) return this.#routed.capture(pass, logits);
    const replay = () => this.forward({ ...pass, routing: routing as Routing })?.dispose();
    return { replay, free: () => {} };
  }

  /** Replaces the weights of one of the experts of a layer of the device, of which the shared ones are the last. */
  renewExpert(layer: DeviceLayer, expert: number, weights: ExpertWeights): void {
    this.#setShares(layer, expert, weights, layer.description.intermediateSize);
  }

  free(): void {
    this.identity?.free();
  }

  /** Stores an expert of `width` as one or more experts of intermediateSize, beginning with number `expert`. */
  #setShares(layer: DeviceLayer, expert: number, weights: ExpertWeights, width: number): void {
    const { device, description, handle, record } = layer;
    const set = expert < description.bank.count ? "experts" : "shared";
    withQuantizedWhole(device, description, weights, width, set, this.#quantizing, (given) => {
      withInnerOrder(given, description, width, (divisible) => {
        for (let first = 0, index = expert; first < width; first += description.intermediateSize, index++) {
          withMatrices({ ...expertShare(divisible, description, width, first) }, (share) => {
            withQuantized(device, description, share, set, this.#quantizing, (matrices) => {
              recordInputs(record, description, set, matrices);
              handle.setExpert(index, matrices);
              record.version++;
            });
          });
        }
      });
    });
    for (const role of ["gateBias", "upBias", "downBias"] as const) {
      if (weights[role] !== undefined) record.addBias(set, role);
    }
  }
}

/** Notes which matrices that stay quantised scale or order their inputs; for others, that is done to their values. */
function recordInputs(
  record: WeightRecord,
  { formats }: Pick<MoeLayerDescription, "formats">,
  set: ExpertSet,
  matrices: ExpertMatrices,
): void {
  for (const role of matrixRoles) {
    if (isPlain(weightFormat(formatsOf(formats, set)[role]))) continue;
    for (const field of inputFields) {
      if (matrices[role]?.[field] !== undefined) record.addInput(set, role, field);
    }
  }
}
