import { withoutSignal } from "../core/device/cancellation.js";
import type { Device } from "../core/device/device.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { ones, steps } from "./backward/sums.js";

/** Tensors that depend on the number of tokens alone. Each is made when it is first needed, for all passes of as many tokens. */
export class TokenConstants implements Disposable {
  readonly tokens: number;
  readonly #device: Device;
  readonly #dtype: "f32";
  #offsets: Tensor<"i32"> | undefined;
  #ownRows: Tensor<"i32"> | undefined;
  #ones: Tensor<"f32"> | undefined;

  constructor(device: Device, tokens: number, dtype: "f32") {
    this.#device = device;
    this.tokens = tokens;
    this.#dtype = dtype;
  }

  /** [2]: all rows are those of one expert. */
  get offsets(): Tensor<"i32"> {
    this.#offsets ??= this.#made(() => this.#device.tensor(Int32Array.of(0, this.tokens)));
    return this.#offsets;
  }

  /** [T, 1]: every token's own row. */
  get ownRows(): Tensor<"i32"> {
    this.#ownRows ??= this.#made(() => steps(this.#device, [this.tokens, 1], 1));
    return this.#ownRows;
  }

  /** [T, 1]: a weight of 1 for every token. */
  get ones(): Tensor<"f32"> {
    this.#ones ??= this.#made(() => ones(this.#device, [this.tokens, 1], this.#dtype));
    return this.#ones;
  }

  /** Later passes need them too, whatever becomes of this one. */
  #made<T>(make: () => T): T {
    return withoutSignal(this.#device, make);
  }

  /** As {@link Tensor.dispose}, for all of them. */
  [Symbol.dispose](): void {
    for (const tensor of [this.#offsets, this.#ownRows, this.#ones]) tensor?.dispose();
  }
}
