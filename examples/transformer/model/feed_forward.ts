import { activate, activationBackward, linear, linearBackward, type Tensor } from "moe-kernels";
import { Weight, type WeightSource } from "./weights.js";

interface Saved {
  readonly x: Tensor<"f32">;
  readonly pre: Tensor<"f32">;
}

/** A dense feed-forward layer, y = down(silu(gate x) · up x): what an expert of a mixture is. */
export class FeedForward {
  /** [2I, H]: gate, then up; and [H, I]. */
  readonly gateUp: Weight;
  readonly down: Weight;
  #saved: Saved | undefined;

  constructor(
    source: WeightSource,
    name: string,
    hiddenSize: number,
    intermediateSize: number,
    outputDeviation: number,
  ) {
    const shape = [2 * intermediateSize, hiddenSize];
    this.gateUp = new Weight(`${name}.gateUp`, source.take(`${name}.gateUp`, shape, 0.02));
    const down = source.take(`${name}.down`, [hiddenSize, intermediateSize], outputDeviation);
    this.down = new Weight(`${name}.down`, down);
  }

  get weights(): Weight[] {
    return [this.gateUp, this.down];
  }

  /** @param x [T, H]; with `save` not to be disposed of before the backward pass. @returns y [T, H]. */
  forward(x: Tensor<"f32">, save: boolean): Tensor<"f32"> {
    const pre = linear(x, this.gateUp.value);
    using inner = activate(pre, { activation: "swiglu" });
    const y = linear(inner, this.down.value);
    if (save) this.#saved = { x, pre };
    else pre.dispose();
    return y;
  }

  /** @returns dx [T, H]. */
  backward(dy: Tensor<"f32">): Tensor<"f32"> {
    if (this.#saved === undefined) throw new Error("feed-forward: expected a forward that saves, got none");
    const { x, pre } = this.#saved;
    this.#saved = undefined;
    const { device } = x;
    using inner = activate(pre, { activation: "swiglu" });
    using dInner = device.empty(inner.shape, "f32");
    linearBackward(inner, this.down.value, dy, { out: { dx: dInner, dWeight: this.down.gradient } });
    using dPre = activationBackward(pre, dInner, { activation: "swiglu" }).dPre;
    const dx = device.empty(x.shape, "f32");
    linearBackward(x, this.gateUp.value, dPre, { out: { dx, dWeight: this.gateUp.gradient } });
    pre.dispose();
    return dx;
  }
}
