import type { WeightMatrix } from "../../core/formats/weight_format.js";
import type { Activation, Clamp } from "../../core/layer/activation.js";
import type { Matrix } from "../core/matrix.js";
import type { Experts } from "./experts.js";
import type { ReferencePackedExperts } from "./packed_experts.js";

/** Experts of equal shapes in two formats: `count` in the first, then those of the second. */
export class JoinedExperts implements Experts {
  readonly rows: number;
  readonly activation: Activation;
  readonly clamp: Clamp;
  readonly #first: ReferencePackedExperts;
  readonly #second: ReferencePackedExperts;
  readonly #count: number;

  constructor(first: ReferencePackedExperts, second: ReferencePackedExperts, count: number) {
    ({ rows: this.rows, activation: this.activation, clamp: this.clamp } = first);
    this.#first = first;
    this.#second = second;
    this.#count = count;
  }

  get byteLength(): number {
    return this.#first.byteLength + this.#second.byteLength;
  }

  setExpert(expert: number, weight: WeightMatrix, up: WeightMatrix | null): void {
    const [experts, index] = this.#place(expert);
    experts.setExpert(index, weight, up);
  }

  weight(expert: number): Matrix {
    const [experts, index] = this.#place(expert);
    return experts.weight(index);
  }

  input(expert: number, x: Float64Array): Float64Array {
    const [experts, index] = this.#place(expert);
    return experts.input(index, x);
  }

  #place(expert: number): readonly [ReferencePackedExperts, number] {
    return expert < this.#count ? [this.#first, expert] : [this.#second, expert - this.#count];
  }
}
