import type { WeightParts } from "../../core/backend.js";
import type { WeightRole } from "../../core/weight_role.js";

/** Which experts a bias belongs to, or `layer` for the router's and the shared gate's. */
export type BiasOwner = "layer" | "experts" | "shared";

/** What a layer's description does not tell of the weights that it was given. */
export class WeightRecord {
  /** Grows whenever a weight changes. */
  version = 0;
  /** Of the shared expert as given; undefined if it was not given as tensors. */
  sharedWidth: number | undefined;
  readonly #biases = new Set<string>();

  /** @param stored the parts of a layer whose weights are not set but stored elsewhere. */
  constructor(stored: WeightParts = {}) {
    const names: Readonly<Record<string, readonly WeightRole[]>> = {
      router_bias: ["routerBias"],
      shared_gate_bias: ["sharedGateBias"],
      gate_up_bias: ["gateBias", "upBias"],
      down_bias: ["downBias"],
    };
    for (const [name, roles] of Object.entries(names)) {
      if (!(name in stored)) continue;
      for (const role of roles) {
        for (const owner of ["layer", "experts", "shared"] as const) this.addBias(owner, role);
      }
    }
  }

  addBias(owner: BiasOwner, role: WeightRole): void {
    this.#biases.add(`${owner}.${role}`);
  }

  hasBias(owner: BiasOwner, role: WeightRole): boolean {
    return this.#biases.has(`${owner}.${role}`);
  }
}
