import { type Device, openedDevice } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { invalidArgument, MoeError } from "../core/errors.js";
import { type Fields, integer, object, optional, results } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { tensor } from "../core/tensor_option.js";
import {
  checkOptional,
  checkTensor,
  checkTokenMask,
  expertCount,
  type TokenMaskOption,
  tokenMaskField,
} from "../operators/check.js";
import { accumulate, readTotals } from "../operators/statistics/accumulate.js";
import { type ExpertTotals, expertTotals, type WeightedExpertTotals } from "../operators/statistics/expert_totals.js";
import { type CountedMean, tokenMean } from "../operators/statistics/mean_scores.js";
import { type RouterHistory, type RouterTotals, routerHistory } from "./router_history.js";

export interface RouterStatsOptions {
  /** E, the number of experts. */
  numExperts: number;
  /**
   * Most windows in the history, an even number; default 128. A window is one call at first. When all are full,
   * neighbours are merged, and every window spans twice as many calls from then on.
   */
  windows?: number;
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
export class RouterStats implements Disposable {
  readonly #device: Device;
  readonly #numExperts: number;
  readonly #maximumWindows: number;
  /** Calls per window. */
  readonly #windows: number[] = [];
  #callsPerWindow = 1;
  #memory: Memory | undefined;

  /** @throws INVALID_ARGUMENT, OUT_OF_MEMORY, DISPOSED. */
  constructor(device: Device, options: RouterStatsOptions) {
    openedDevice(device, "device");
    const { numExperts, windows } = statsOptions(options, "options");
    if (windows % 2 !== 0) throw invalidArgument("windows", "an even number", windows);
    this.#device = device;
    this.#numExperts = numExperts;
    this.#maximumWindows = windows;
    this.#memory = new Memory(device, windows, numExperts);
  }

  get device(): Device {
    return this.#device;
  }

  get numExperts(): number {
    return this.#numExperts;
  }

  /**
   * Enqueues counting one call. The tensors may be disposed of as soon as this returns.
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
    checkOptional("routing.weights", weights, ["f32", "f64"], ids.shape, device);
    checkTokenMask(tokenMask, tokens, device);
    const window = this.#windowOfCall();
    const memory = this.#live();
    const totals = expertTotals(ids, { numExperts, tokenMask, ...(weights && { weights }) });
    using entropy = tokenMean(logits, "entropy", { tokenMask, total: true });
    memory.add(window, totals, entropy);
    for (const tensor of Object.values(totals)) tensor.dispose();
    this.#windows[window] = (this.#windows[window] as number) + 1;
  }

  /**
   * Resolves to what was recorded before this call, once the device has finished it.
   * @throws DISPOSED; rejects with the first error of the enqueued work since the last wait.
   */
  async read(): Promise<RouterHistory> {
    const memory = this.#live();
    const windows = [...this.#windows];
    return routerHistory(windows, await memory.read());
  }

  /** Frees the totals on the device. Idempotent. */
  dispose(): void {
    this.#memory?.dispose();
    this.#memory = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #live(): Memory {
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
    const pairs = this.#windows.length / 2;
    this.#windows.splice(0, 2 * pairs, ...Array.from({ length: pairs }, () => 2 * this.#callsPerWindow));
    this.#callsPerWindow *= 2;
  }
}

/** The totals on the device, as rows for {@link accumulate}: one per window, and the importance over all windows. */
class Memory implements Disposable {
  readonly #device: Device;
  readonly #windows: number;
  readonly #totals: Readonly<Record<keyof RouterTotals, Tensor<"i32"> | Tensor<"f32">>>;

  constructor(device: Device, windows: number, numExperts: number) {
    this.#device = device;
    this.#windows = windows;
    this.#totals = {
      counts: device.zeros([windows * numExperts, 2], "i32"),
      dropped: device.zeros([windows, 2], "i32"),
      tokens: device.zeros([windows, 2], "i32"),
      entropy: device.zeros([windows, 2], "f32"),
      importance: device.zeros([numExperts, 2], "f32"),
    };
  }

  /** Adds the totals of one call; entropy is summed over its tokens. */
  add(window: number, ofCall: ExpertTotals | WeightedExpertTotals, entropy: CountedMean): void {
    this.#add("counts", window, ofCall.tokens);
    this.#add("dropped", window, ofCall.dropped);
    this.#add("tokens", window, entropy.counts);
    this.#add("entropy", window, entropy.mean);
    if ("weights" in ofCall) this.#add("importance", undefined, ofCall.weights);
  }

  /** New totals of the same size, with each pair of neighbouring windows summed into the first half. */
  joinNeighbours(): Memory {
    const { counts, dropped, tokens, entropy, importance } = this.#totals;
    const joined = new Memory(this.#device, this.#windows, importance.shape[0] as number);
    for (const [part, totals] of Object.entries({ counts, dropped, tokens, entropy })) {
      for (let window = 0; window < this.#windows; window++) {
        using from = this.#rows(totals, window);
        using to = joined.#rows(joined.#totals[part as keyof RouterTotals], Math.floor(window / 2));
        accumulate(to as Tensor<"f32">, from as Tensor<"f32">);
      }
    }
    accumulate(joined.#totals.importance as Tensor<"f32">, importance as Tensor<"f32">);
    return joined;
  }

  /** Reads all totals at one point of the stream. */
  async read(): Promise<RouterTotals> {
    const reads = Object.entries(this.#totals).map(async ([part, totals]) => [part, await readTotals(totals)]);
    return Object.fromEntries(await Promise.all(reads)) as RouterTotals;
  }

  dispose(): void {
    for (const totals of Object.values(this.#totals)) totals.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Adds a call's values, of any shape, to the totals of one window, or to those over all windows. */
  #add(part: keyof RouterTotals, window: number | undefined, values: Tensor<"i32"> | Tensor<"f32">): void {
    const totals = this.#totals[part];
    using rows = window === undefined ? totals.reshape(totals.shape) : this.#rows(totals, window);
    using list = values.reshape([values.size]);
    accumulate(rows as Tensor<"f32">, list as Tensor<"f32">);
  }

  #rows(totals: Tensor<"i32"> | Tensor<"f32">, window: number): Tensor<"i32"> | Tensor<"f32"> {
    const count = (totals.shape[0] as number) / this.#windows;
    return totals.rows(window * count, (window + 1) * count);
  }
}
