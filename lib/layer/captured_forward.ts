import type { CapturedHandle } from "../backend.js";
import type { FloatDType } from "../dtype.js";
import { MoeError } from "../errors.js";
import type { Tensor } from "../tensor.js";

export interface CaptureOptions<D extends FloatDType = FloatDType> {
  /** Of x and y; default the dtype of the layer's weights. */
  dtype?: D;
}

/**
 * A layer's forward over fixed memory, made by {@link MoeLayer.capture} to be run many times: write tokens into `x`, call
 * `replay()`, read `y`. The results are those of `forward`, bit for bit.
 *
 * On `cuda` a replay launches one CUDA graph in place of the forward's kernels one by one; on `simt` it runs the launches
 * as they were recorded. On `cpu` and `reference`, where there is nothing to record, a replay is `forward` from `x` to `y`.
 */
export class CapturedForward<D extends FloatDType = FloatDType> implements Disposable {
  /** The tokens [T, H]; not initialised. `x.write(values)` fills it, or an operator that takes it as `out`. */
  readonly x: Tensor<D>;
  /** The outputs [T, H] of the last replay; the next one overwrites them. */
  readonly y: Tensor<D>;
  #handle: CapturedHandle | undefined;

  /** @internal Use {@link MoeLayer.capture}. */
  constructor(x: Tensor<D>, y: Tensor<D>, handle: CapturedHandle) {
    this.x = x;
    this.y = y;
    this.#handle = handle;
  }

  /**
   * Enqueues y = layer(x).
   * @throws DISPOSED.
   */
  replay(): void {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "captured forward: used after dispose()");
    void this.x.device.backend;
    this.#handle.replay();
  }

  /** Frees `x`, `y` and what the replays need, once enqueued work no longer needs them. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
    this.x.dispose();
    this.y.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
