import { inspect } from "node:util";
import { type Device, openedDevice } from "../core/device/device.js";
import { ThreadBound } from "../core/device/thread_bound.js";
import { invalidArgument, isMoeError, MoeError } from "../core/errors.js";
import { type Fields, integer, object, optional, results } from "../core/input/options.js";
import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { tensor } from "../core/tensors/tensor_option.js";
import {
  checkIds,
  checkOptional,
  checkTensor,
  checkTokenMask,
  expertCount,
  type TokenMaskOption,
  tokenMaskField,
} from "../operators/check.js";
import { type RouterHistory, routerHistory } from "./router_history.js";
import { WindowTotals } from "./window_totals.js";

/** Options of {@link RouterStats}. */
export interface RouterStatsOptions {
  /** E, the number of experts. */
  numExperts: number;
  /**
   * Most windows in the history, an even number; default 128. A window is one call at first. When all are full,
   * neighbours are merged, and every window spans twice as many calls from then on.
   */
  windows?: number | undefined;
}

/** The experts of every token and, optionally, their weights. */
export interface RecordedRouting {
  /** [T, k] i32; -1 for no expert. */
  readonly ids: Tensor<"i32">;
  /** [T, k] f32; without weights, the experts' importance is not recorded. */
  readonly weights?: Tensor<"f32"> | undefined;
}

const statsOptions = object(
  { numExperts: expertCount, windows: optional(integer(2, 2 ** 20), 128) } satisfies Fields<RouterStatsOptions>,
  "{ numExperts: 64 }",
);
const recordedRouting = results({ ids: tensor<"i32">(), weights: optional(tensor<"f32">()) });
const recordOptions = object(tokenMaskField, "{ tokenMask }");

/**
 * Totals of what one layer's router did over many calls, kept on the device: `record` only enqueues work, and nothing
 * is read back until `read()`. Counts are exact, in 64 bits.
 *
 *     using stats = new RouterStats(device, { numExperts: 64 });
 *     for (const x of batches) {
 *       const { y, logits, routing } = layer.forward(x, { want: ["logits", "routing"] });
 *       stats.record(logits, routing);
 *     }
 *     const history = await stats.read();
 *     console.log(history.maximumViolation, heatMap(history));
 */
export class RouterStats extends ThreadBound implements Disposable {
  readonly #device: Device;
  readonly #numExperts: number;
  readonly #maximumWindows: number;
  /** Calls per window. */
  readonly #windows: number[] = [];
  #callsPerWindow = 1;
  #memory: WindowTotals | undefined;

  /** @throws INVALID_ARGUMENT, OUT_OF_MEMORY, DISPOSED. */
  constructor(device: Device, options: RouterStatsOptions) {
    super();
    openedDevice(device, "device");
    const { numExperts, windows } = statsOptions(options, "options");
    if (windows % 2 !== 0) throw invalidArgument("windows", "an even number", windows);
    this.#device = device;
    this.#numExperts = numExperts;
    this.#maximumWindows = windows;
    this.#memory = new WindowTotals(device, windows, numExperts);
  }

  /** Where totals are kept; that of all recorded tensors. */
  get device(): Device {
    return this.#device;
  }

  /** E. */
  get numExperts(): number {
    return this.#numExperts;
  }

  /**
   * Enqueues counting one call. The tensors may be disposed of as soon as this returns. Totals of which a part was aborted
   * cannot be read any more: where forwards have a `signal`, record once y has been read.
   * @param logits [T, E] f32, f16 or bf16.
   * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; an id out of range is
   * reported by the next wait.
   */
  record(logits: Tensor<FloatDType>, routing: RecordedRouting, options: TokenMaskOption = {}): void {
    const { device, numExperts } = this;
    checkTensor("logits", logits, "float", ["T", numExperts], device);
    const { ids, weights } = recordedRouting(routing, "routing");
    const { tokenMask } = recordOptions(options, "options");
    const tokens = logits.shape[0] as number;
    checkTensor("routing.ids", ids, ["i32"], [tokens, "k"], device);
    checkOptional("routing.weights", weights, "float32", ids.shape, device);
    checkTokenMask(tokenMask, tokens, device);
    checkIds("routing.ids", ids);
    const window = this.#windowOfCall();
    this.#live().add(window, { logits, ids, weights, tokenMask });
    this.#windows[window] = (this.#windows[window] as number) + 1;
  }

  /**
   * Resolves to what was recorded before this call, once the device has finished it.
   * @throws DISPOSED; ABORTED if a forward whose results were recorded was aborted before it began; rejects with the first
   * error of the enqueued work since the last wait.
   */
  async read(): Promise<RouterHistory> {
    const memory = this.#live();
    const windows = [...this.#windows];
    return routerHistory(windows, await memory.read().catch(lostTotals));
  }

  /** Frees the totals on the device. Idempotent. */
  dispose(): void {
    this.#memory?.dispose();
    this.#memory = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const calls = this.#windows.reduce((sum, count) => sum + count, 0);
    const state = this.#memory === undefined || this.#device.disposed ? " (disposed)" : "";
    return `RouterStats of ${this.#numExperts} experts, calls: ${calls}, on ${this.#device.name}${state}`;
  }

  #live(): WindowTotals {
    if (this.#memory === undefined) throw new MoeError("DISPOSED", "router stats: used after dispose()");
    return this.#memory;
  }

  /** The window of the next call. If all are full, merges them first, in new memory. */
  #windowOfCall(): number {
    void this.#live();
    const windows = this.#windows;
    if (windows.length > 0 && (windows.at(-1) as number) < this.#callsPerWindow) return windows.length - 1;
    if (windows.length === this.#maximumWindows) this.#joinNeighbours();
    return windows.push(0) - 1;
  }

  #joinNeighbours(): void {
    const joined = this.#live().joinNeighbours();
    this.dispose();
    this.#memory = joined;
    this.#callsPerWindow *= 2;
    this.#windows.length /= 2;
    this.#windows.fill(this.#callsPerWindow);
  }
}

/** Throws the error of reading totals, which says what to do if they were lost to a signal. */
function lostTotals(error: unknown): never {
  if (!isMoeError(error, "ABORTED")) throw error;
  const message =
    "router stats: expected results of forwards that were done, got those of one that its signal aborted; record once y has been read, in new RouterStats";
  throw new MoeError("ABORTED", message, { cause: error.cause });
}
