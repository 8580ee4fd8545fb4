import { MoeError } from "../../core/errors.js";
import type { Matrix } from "../core/matrix.js";
import type { SortResult } from "../routing/sort.js";

/** Experts of every token, and their weights [T, slots]. */
export interface Slots {
  readonly ids: Int32Array;
  readonly weights: Matrix;
}

/** What stages leave for later ones. */
export interface StageResults {
  /** [T, H], what is put in. */
  x: Matrix;
  /** [T, E], of `router`. */
  logits: Matrix;
  /** [T, 1] or [T, 2], the output of the shared experts' gate, of `sharedGate`. */
  sharedGate: Matrix;
  /** Of `gating`, or put in: the experts that tokens chose. */
  chosen: Slots;
  /** Of `sort`: the chosen experts and the shared ones of every token, as numbers within the bank. */
  slots: Slots;
  /** Of `sort`: the rows of these slots. */
  rows: SortResult;
  /** [rows, I], of `gateUp`. */
  inner: Matrix;
  /** [rows, H], of `down`. */
  outputs: Matrix;
  /** [T, H], of `combine`. */
  y: Matrix;
}

/** The results so far of the stages of one forward; whoever keeps it has what a backward pass needs. */
export class ForwardState {
  readonly #results: Partial<StageResults>;

  constructor(given: Partial<StageResults>) {
    this.#results = { ...given };
  }

  has(name: keyof StageResults): boolean {
    return this.#results[name] !== undefined;
  }

  /** @throws INTERNAL where no stage before has left it. */
  get<Name extends keyof StageResults>(name: Name): StageResults[Name] {
    const result = this.#results[name];
    if (result === undefined) {
      throw new MoeError("INTERNAL", `layer stages: one needs "${name}", which none before it has left`);
    }
    return result as StageResults[Name];
  }

  set<Name extends keyof StageResults>(name: Name, result: StageResults[Name]): void {
    this.#results[name] = result;
  }
}
