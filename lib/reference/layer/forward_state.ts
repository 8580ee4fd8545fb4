import { MoeError } from "../../core/errors.js";
import type { Matrix } from "../core/matrix.js";
import type { SortResult } from "../routing/sort.js";

/** The experts of every token, and their weights [T, slots]. */
export interface Slots {
  readonly ids: Int32Array;
  readonly weights: Matrix;
}

/** What stages leave for later stages. */
export interface StageResults {
  /** [T, H], the input. */
  x: Matrix;
  /** [T, E], from `router`. */
  logits: Matrix;
  /** [T, 1] or [T, 2], from `sharedGate`: the output of the shared experts' gate. */
  sharedGate: Matrix;
  /** From `gating`, or an input: the experts that tokens chose. */
  chosen: Slots;
  /** From `sort`: every token's chosen and shared experts, numbered within the bank. */
  slots: Slots;
  /** From `sort`: the rows of these slots. */
  rows: SortResult;
  /** [rows, P], from `gateUp`: before the activation. */
  pre: Matrix;
  /** [rows, I], from `gateUp`: of the third projection, if there is one. */
  multiplied: Matrix;
  /** [rows, I], from `gateUp`. */
  inner: Matrix;
  /** [rows, H], from `down`. */
  outputs: Matrix;
  /** [T, H], from `combine`. */
  y: Matrix;
}

/** The results so far of the stages of one forward. Keeping it keeps what a backward pass needs. */
export class ForwardState {
  readonly #results: Partial<StageResults>;

  constructor(given: Partial<StageResults>) {
    this.#results = { ...given };
  }

  has(name: keyof StageResults): boolean {
    return this.#results[name] !== undefined;
  }

  /** @throws INTERNAL if no earlier stage has left this result. */
  get<Name extends keyof StageResults>(name: Name): StageResults[Name] {
    const result = this.#results[name];
    if (result === undefined) {
      throw new MoeError("INTERNAL", `layer stages: a stage needs "${name}", but no earlier stage has left it`);
    }
    return result as StageResults[Name];
  }

  set<Name extends keyof StageResults>(name: Name, result: StageResults[Name]): void {
    this.#results[name] = result;
  }
}
