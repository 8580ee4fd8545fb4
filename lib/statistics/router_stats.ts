import { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { checkInteger, checkOptions, invalidArgument, MoeError } from "../errors.js";
import { accumulate, readTotals } from "../operators/accumulate.js";
import { checkOptional, checkTensor } from "../operators/check.js";
import { expertTotals } from "../operators/expert_totals.js";
import { tokenMean } from "../operators/mean_scores.js";
import type { Tensor } from "../tensor.js";
import { type RouterHistory, routerHistory, type WindowSize } from "./router_history.js";

export interface RouterStatsOptions {
  /** E. */
  numExperts: number;
  /**
   * How many windows of calls the history has at most, an even number; default 128. A window is one call at first; when
   * all are full, neighbours are joined and windows have twice as many calls from then on.
   */
  windows?: number;
}

/** The experts of every token, and perhaps their weights. */
export interface RecordedRouting {
  /** [T, k] i32; -1 is no expert. */
  readonly ids: Tensor<"i32">;
  /** [T, k] f32; without them the importance of experts is not counted. */
  readonly weights?: Tensor<"f32"> | undefined;
}

/**
 * What one layer's router did over many calls, added up on the device: `record` only enqueues, and nothing is read before
 * `read()`. Counts are exact, in 64 bits.
 *
 *     using stats = new RouterStats(device, { numExperts: 64 });
 *     for (const x of batches) stats.record(layer.routerLogits(x), layer.route(x));
 *     const history = await stats.read();
 *     console.log(history.maximumViolation, heatMap(history));
 */
export class RouterStats implements Disposable {
  readonly device: Device;
  readonly numExperts: number;
  readonly #maximumWindows: number;
  readonly #windows: WindowSize[] = [];
  #callsPerWindow = 1;
  #memory: Memory | undefined;

  /** @throws INVALID_ARGUMENT, OUT_OF_MEMORY, DISPOSED. */
  constructor(device: Device, options: RouterStatsOptions) {
    if (!(device instanceof Device)) throw invalidArgument("device", "a Device from openDevice()", device);
    checkOptions(options, "{ numExperts: 64 }");
    const { numExperts, windows = 128 } = options;
    checkInteger("numExperts", numExperts, 1, 2 ** 31 - 2);
    checkInteger("windows", windows, 2, 2 ** 20);
    if (windows % 2 !== 0) throw invalidArgument("windows", "an even number", windows);
    this.device = device;
    this.numExperts = numExperts;
    this.#maximumWindows = windows;
    this.#memory = new Memory(device, windows, numExperts);
  }

  /**
   * Enqueues the counting of one call. The tensors may be disposed right after.
   * @param logits [T, E] f32, f16 or bf16.
   * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; an id out of range is reported at the next wait.
   */
  record(logits: Tensor<FloatDType>, { ids, weights }: RecordedRouting): void {
    const { device, numExperts } = this;
    checkTensor("logits", logits, "float", ["T", numExperts], device);
    const tokens = logits.shape[0] as number;
    checkTensor("routing.ids", ids, ["i32"], [tokens, "k"], device);
    checkOptional("routing.weights", weights, ["f32", "f64"], ids.shape, device);
    const window = this.#windowOfCall();
    const memory = this.#live();
    const totals = expertTotals(ids, { numExperts, ...(weights && { weights }) });
    using entropy = tokenMean(logits, "entropy");
    memory.add(window, totals, entropy, tokens);
    for (const tensor of Object.values(totals)) tensor.dispose();
    const size = this.#windows[window] as WindowSize;
    this.#windows[window] = {
      calls: size.calls + 1,
      tokens: size.tokens + tokens,
      choices: size.choices + ids.size,
    };
  }

  /**
   * What was recorded before this call, once the device has done it.
   * @throws DISPOSED; rejects with the first error of the enqueued work since the last wait.
   */
  async read(): Promise<RouterHistory> {
    const memory = this.#live();
    const windows = [...this.#windows];
    return routerHistory(windows, await memory.read());
  }

  /** Frees the counts on the device. Idempotent. */
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

  /** The window that the next call belongs to; where all are full, after they were joined in other memory. */
  #windowOfCall(): number {
    void this.#live();
    const windows = this.#windows;
    if (windows.length > 0 && (windows.at(-1) as WindowSize).calls < this.#callsPerWindow) return windows.length - 1;
    if (windows.length === this.#maximumWindows) this.#joinNeighbours();
    return windows.push({ calls: 0, tokens: 0, choices: 0 }) - 1;
  }

  #joinNeighbours(): void {
    const joined = this.#live().joinNeighbours();
    this.dispose();
    this.#memory = joined;
    const pairs = Array.from({ length: this.#windows.length / 2 }, (_, pair) => {
      const [first, second] = this.#windows.slice(2 * pair, 2 * pair + 2) as [WindowSize, WindowSize];
      return {
        calls: first.calls + second.calls,
        tokens: first.tokens + second.tokens,
        choices: first.choices + second.choices,
      };
    });
    this.#windows.splice(0, this.#windows.length, ...pairs);
    this.#callsPerWindow *= 2;
  }
}

/** The totals on the device: of every window the tokens per expert and the entropy, of all the importance. */
class Memory implements Disposable {
  readonly #device: Device;
  readonly #windows: number;
  readonly #numExperts: number;
  readonly #counts: Tensor<"i32">;
  readonly #entropy: Tensor<"f32">;
  readonly #importance: Tensor<"f32">;

  constructor(device: Device, windows: number, numExperts: number) {
    this.#device = device;
    this.#windows = windows;
    this.#numExperts = numExperts;
    this.#counts = device.zeros([windows * numExperts, 2], "i32");
    this.#entropy = device.zeros([windows, 2], "f32");
    this.#importance = device.zeros([numExperts, 2], "f32");
  }

  /** Adds the totals of one call, whose tokens have this mean entropy. */
  add(
    window: number,
    { tokens, weights }: { tokens: Tensor<"i32">; weights?: Tensor<"f32"> },
    meanEntropy: Tensor<"f32">,
    tokenCount: number,
  ): void {
    using counts = this.#countsOf(window);
    using ofExperts = tokens.reshape([this.#numExperts]);
    accumulate(counts, ofExperts);
    using entropy = this.#entropy.rows(window, window + 1);
    accumulate(entropy, meanEntropy, { factor: tokenCount });
    if (weights === undefined) return;
    using importance = weights.reshape([this.#numExperts]);
    accumulate(this.#importance, importance);
  }

  /** As much memory, whose first half has the sums of two neighbouring windows each. */
  joinNeighbours(): Memory {
    const joined = new Memory(this.#device, this.#windows, this.#numExperts);
    for (let window = 0; window < this.#windows; window++) {
      const pair = Math.floor(window / 2);
      using from = this.#countsOf(window);
      using to = joined.#countsOf(pair);
      accumulate(to, from);
      using entropyFrom = this.#entropy.rows(window, window + 1);
      using entropyTo = joined.#entropy.rows(pair, pair + 1);
      accumulate(entropyTo, entropyFrom);
    }
    accumulate(joined.#importance, this.#importance);
    return joined;
  }

  /** All totals at one point of the stream. */
  async read() {
    const reads = [this.#counts, this.#entropy, this.#importance].map((totals) => readTotals(totals as Tensor<"f32">));
    const [counts, entropy, importance] = (await Promise.all(reads)) as [Float64Array, Float64Array, Float64Array];
    return { counts, entropy, importance };
  }

  dispose(): void {
    for (const totals of [this.#counts, this.#entropy, this.#importance]) totals.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #countsOf(window: number): Tensor<"i32"> {
    return this.#counts.rows(window * this.#numExperts, (window + 1) * this.#numExperts);
  }
}
