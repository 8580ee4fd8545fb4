import type { WeightParts } from "../../core/device/backend.js";
import type { InputField } from "../../core/formats/weight_formats.js";
import type { WeightRole } from "../../core/layer/weight_role.js";
import type { ExpertSet, MatrixRole } from "../description/storage.js";

/** Which experts a bias belongs to, or `layer` for the router's and the shared gate's. */
export type BiasOwner = "layer" | "experts" | "shared";

type BiasRole = WeightRole | "selectionBias";

/** What a layer's description does not tell of the weights that it was given. */
export class WeightRecord {
  /** Grows whenever a weight changes. */
  version = 0;
  /** The width of the shared expert as it was given; undefined if it was not given as tensors. */
  sharedWidth: number | undefined;
  readonly #biases = new Set<string>();
  readonly #inputs = new Set<string>();

  /**
   * @param stored the parts of a layer whose weights are not set but stored elsewhere.
   * @param owners what the parts are of.
   */
  constructor(stored: WeightParts = {}, owners: readonly BiasOwner[] = ["layer", "experts", "shared"]) {
    const names: Readonly<Record<string, readonly BiasRole[]>> = {
      router_bias: ["routerBias"],
      selection_bias: ["selectionBias"],
      shared_gate_bias: ["sharedGateBias"],
      gate_up_bias: ["gateBias", "upBias"],
      down_bias: ["downBias"],
    };
    for (const [name, roles] of Object.entries(names)) {
      if (!(name in stored)) continue;
      for (const role of roles) {
        for (const owner of owners) this.addBias(owner, role);
      }
    }
    for (const name of Object.keys(stored)) {
      const [, matrix, what] =
        /^(?:shared_expert_)?(gate_up|gate|up|multiplier|down)_input_(scale|order)$/.exec(name) ?? [];
      if (matrix === undefined) continue;
      const field = what === "scale" ? "inputScale" : "inputOrder";
      const roles = matrix === "gate_up" ? (["gate", "up"] as const) : [matrix as MatrixRole];
      for (const role of roles) for (const owner of owners) if (owner !== "layer") this.addInput(owner, role, field);
    }
  }

  addBias(owner: BiasOwner, role: BiasRole): void {
    this.#biases.add(`${owner}.${role}`);
  }

  hasBias(owner: BiasOwner, role: BiasRole): boolean {
    return this.#biases.has(`${owner}.${role}`);
  }

  addInput(owner: ExpertSet, role: MatrixRole, field: InputField): void {
    this.#inputs.add(`${owner}.${role}.${field}`);
  }

  /** Whether a quantised matrix of any expert scales or orders its inputs. */
  hasInput(owner: ExpertSet, role: MatrixRole, field: InputField): boolean {
    return this.#inputs.has(`${owner}.${role}.${field}`);
  }
}
