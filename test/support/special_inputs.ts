import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Shape } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { Case } from "../../lib/testing/case.js";
import { drawsOf } from "../../lib/testing/inputs/draws.js";
import { Inputs } from "../../lib/testing/inputs/inputs.js";

/** A value, and the number of the float tensor that holds it in one place, in the order in which a case draws them. */
export interface Special {
  readonly tensor: number;
  readonly value: number;
}

/** A case draws more numbers than a test has time for. */
export class TooLarge extends Error {}

/** The inputs of a case with a special value in one of its float tensors. */
export class SpecialInputs extends Inputs {
  readonly #special: Special | undefined;
  readonly #most: number;
  /** How many numbers each float tensor so far has. */
  readonly sizes: number[] = [];

  constructor(device: Device, source: Case, expects: boolean, special?: Special, most = Number.POSITIVE_INFINITY) {
    super(device, drawsOf(source, `${source.operator} ${source.name}`), expects);
    this.#special = special;
    this.#most = most;
  }

  /** @throws TooLarge */
  override floats(values: Float32Array, shape: Shape, dtype: FloatDType): Tensor<FloatDType> {
    const tensor = this.sizes.push(values.length) - 1;
    if (this.sizes.reduce((a, b) => a + b) > this.#most) throw new TooLarge(`more than ${this.#most} numbers`);
    if (tensor !== this.#special?.tensor) return super.floats(values, shape, dtype);
    return super.floats(values.with(Math.floor(values.length / 3), this.#special.value), shape, dtype);
  }
}
