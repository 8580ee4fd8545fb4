import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { resultDType } from "../../operators/check.js";
import { combine } from "../../operators/experts/combine.js";
import type { Routing } from "../../operators/routing/gating.js";
import { sharedSlots } from "../../operators/routing/shared_slots.js";
import { ones } from "../backward/sums.js";
import { expertsWithWeights } from "../description/identity_experts.js";
import type { DeviceLayer } from "../device_layer.js";
import { Temporaries } from "../temporaries.js";

/**
 * The experts of a layer that return their input. What they add to a token's outputs is x times the sum of the weights of
 * those that it chose: a weighted sum of one row. That sum is one of rows of a single 1.
 */
export class IdentityExperts {
  readonly #layer: DeviceLayer;
  /** [Z, 1], 1 for each of them. */
  readonly ones: Tensor<"f32">;

  constructor(layer: DeviceLayer) {
    this.#layer = layer;
    this.ones = ones(layer.device, [layer.description.identityExperts, 1], this.#dtype);
  }

  get #dtype(): "f32" {
    return resultDType({ dtype: this.#layer.description.weightDType });
  }

  /**
   * [T, H] f32: what they add for tokens x [T, H], plus what else is added to the outputs.
   * @param out where to write; default a new tensor.
   */
  outputs(
    x: TensorHandle,
    routing: Routing,
    residual: TensorHandle | undefined,
    out: Tensor<"f32"> = this.emptyOutputs(routing.ids.shape[0] as number),
  ): Tensor<"f32"> {
    using temporaries = new Temporaries();
    const shares = temporaries.keep(this.shares(this.slots(routing, temporaries)));
    const inputs = { rows: x, rowOfSlot: this.ownRows(shares.size).handle, weights: shares.handle, residual };
    this.#layer.device.backend.combine({ ...inputs, y: out.handle });
    return out;
  }

  /** Memory for {@link outputs}. */
  emptyOutputs(tokens: number): Tensor<"f32"> {
    return this.#layer.device.empty([tokens, this.#layer.description.hiddenSize], this.#dtype);
  }

  /** [T, k]: the choices that fall on them, numbered from 0, else -1, and the weights; kept in `temporaries`. */
  slots({ ids, weights }: Routing, temporaries: Temporaries): Routing {
    const { numExperts, identityExperts } = this.#layer.description;
    const bank = { first: expertsWithWeights(this.#layer.description), count: identityExperts };
    const slots = sharedSlots(ids, weights, { numExperts, sharedExperts: 0, bank });
    return { ids: temporaries.keep(slots.ids), weights: temporaries.keep(slots.weights) };
  }

  /** [T, 1], the sum of the weights of a token's {@link slots}, in their order. */
  shares({ ids, weights }: Routing): Tensor<"f32"> {
    return combine(this.ones, ids, weights);
  }

  /** [T, 1]: every token's own row; not to be disposed of. */
  ownRows(tokens: number): Tensor<"i32"> {
    return this.#layer.constants(tokens).ownRows;
  }

  free(): void {
    this.ones.dispose();
  }
}
