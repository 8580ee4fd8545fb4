import type { Device } from "../core/device/device.js";
import { allOrNone } from "../core/tensors/all_or_none.js";
import type { FloatDType } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import { readTotals } from "../operators/statistics/accumulate.js";
import type { RouterTotals } from "./router_history.js";

/** What one call adds: the tensors of `record`, checked. */
export interface RecordedCall {
  readonly logits: Tensor<FloatDType>;
  readonly ids: Tensor<"i32">;
  readonly weights: Tensor<"f32"> | undefined;
  readonly tokenMask: Tensor<"u8"> | undefined;
}

/** Numbers of one kind: what a call gives, and the totals of all windows, each a row as {@link accumulate} takes it. */
interface Part {
  readonly perWindow: number;
  readonly ofCall: Tensor;
  readonly totals: Tensor;
}

/**
 * The totals of all windows on the device, and memory for what one call adds. The stream is in order, so that every call
 * can use the same memory, and views of it are made once: recording allocates nothing.
 */
export class WindowTotals implements Disposable {
  readonly #device: Device;
  readonly #windows: number;
  readonly #experts: number;
  /** [tokens of E experts, dropped, tokens], i32 */
  readonly #counts: Part;
  /** [importance of E experts, sum of entropy], f32 */
  readonly #sums: Part;
  readonly #views: {
    readonly [name in "tokens" | "dropped" | "rows" | "importance" | "entropy" | "entropyAlone"]: TensorHandle;
  };
  /** The rows of the window that calls are added to now. */
  #window: { index: number; counts: TensorHandle; sums: TensorHandle; entropy: TensorHandle } | undefined;
  /** [T] and [T, 1], the entropy of every token of a call. */
  #entropies: { tokens: number; list: TensorHandle; column: TensorHandle } | undefined;

  constructor(device: Device, windows: number, experts: number) {
    this.#device = device;
    this.#windows = windows;
    this.#experts = experts;
    const sizes = [
      ["i32", experts + 2],
      ["f32", experts + 1],
    ] as const;
    const all = allOrNone(
      sizes.flatMap(([dtype, perWindow]) => [
        { dtype, shape: [perWindow] },
        { dtype, shape: [windows * perWindow, 2] },
      ]),
      ({ dtype, shape }) => device.zeros(shape, dtype),
    );
    const [counts, sums] = sizes.map(([, perWindow], index): Part => {
      return { perWindow, ofCall: all[2 * index] as Tensor, totals: all[2 * index + 1] as Tensor };
    }) as [Part, Part];
    this.#counts = counts;
    this.#sums = sums;
    const [counted, summed] = [counts.ofCall.handle, sums.ofCall.handle];
    this.#views = {
      tokens: counted.view([1, experts], 0),
      dropped: counted.view([1], experts),
      rows: counted.view([1], experts + 1),
      importance: summed.view([1, experts], 0),
      entropy: summed.view([1, 1], experts),
      entropyAlone: summed.view([1], experts),
    };
  }

  /** Enqueues adding one call to a window. */
  add(index: number, { logits, ids, weights, tokenMask }: RecordedCall): void {
    const { backend } = this.#device;
    const { tokens, dropped, rows, importance, entropy } = this.#views;
    const mask = tokenMask?.handle ?? null;
    const window = this.#rowsOf(index);
    const { list, column } = this.#entropiesOf(logits.shape[0] as number);
    const counted = { ids: ids.handle, tokenMask: mask, tokens, dropped, choices: ids.shape[1] as number };
    backend.expertTotals(weights ? { ...counted, weights: weights.handle, sums: importance } : counted);
    backend.routerScores({ logits: logits.handle, entropy: list, scoring: "softmax", normalize: false });
    backend.columnMeans({ values: column, tokenMask: mask, means: entropy, counts: rows, square: false, total: true });
    const added = { valuesAreTotals: false, scale: 1 };
    backend.accumulate({ values: this.#counts.ofCall.handle, totals: window.counts, ...added });
    if (weights) backend.accumulate({ values: this.#sums.ofCall.handle, totals: window.sums, ...added });
    else backend.accumulate({ values: this.#views.entropyAlone, totals: window.entropy, ...added });
  }

  /** New totals of the same size, with each pair of neighbouring windows summed into the first half. */
  joinNeighbours(): WindowTotals {
    const joined = new WindowTotals(this.#device, this.#windows, this.#experts);
    for (const [from, to] of [
      [this.#counts, joined.#counts],
      [this.#sums, joined.#sums],
    ] as const) {
      for (let window = 0; window < this.#windows; window++) {
        using values = windowOf(from, window);
        using totals = windowOf(to, Math.floor(window / 2));
        this.#device.backend.accumulate({
          values: values.handle,
          totals: totals.handle,
          valuesAreTotals: true,
          scale: 1,
        });
      }
    }
    return joined;
  }

  /** Reads all totals at one point of the stream. */
  async read(): Promise<RouterTotals> {
    const experts = this.#experts;
    const [counts, sums] = await Promise.all(
      [this.#counts, this.#sums].map(({ totals }) => readTotals(totals as Tensor<"i32"> | Tensor<"f32">)),
    );
    const rowsOf = (values: Float64Array | undefined, perWindow: number) =>
      Array.from({ length: this.#windows }, (_, window) =>
        (values as Float64Array).subarray(window * perWindow, (window + 1) * perWindow),
      );
    const [ofCounts, ofSums] = [rowsOf(counts, experts + 2), rowsOf(sums, experts + 1)];
    const column = (rows: Float64Array[], index: number) => Float64Array.from(rows, (row) => row[index] as number);
    return {
      counts: Float64Array.from(ofCounts.flatMap((row) => Array.from(row.subarray(0, experts)))),
      dropped: column(ofCounts, experts),
      tokens: column(ofCounts, experts + 1),
      entropy: column(ofSums, experts),
      importance: Float64Array.from({ length: experts }, (_, expert) =>
        ofSums.reduce((sum, row) => sum + (row[expert] as number), 0),
      ),
    };
  }

  dispose(): void {
    this.#freeWindow();
    this.#freeEntropies();
    for (const view of Object.values(this.#views)) view.free();
    for (const { ofCall, totals } of [this.#counts, this.#sums]) {
      ofCall.dispose();
      totals.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #rowsOf(index: number) {
    if (this.#window?.index === index) return this.#window;
    this.#freeWindow();
    const experts = this.#experts;
    const [counts, sums] = [this.#counts, this.#sums].map(({ totals, perWindow }) =>
      totals.handle.view([perWindow, 2], 2 * index * perWindow),
    ) as [TensorHandle, TensorHandle];
    const entropy = this.#sums.totals.handle.view([1, 2], 2 * (index * (experts + 1) + experts));
    this.#window = { index, counts, sums, entropy };
    return this.#window;
  }

  #entropiesOf(tokens: number) {
    if (this.#entropies?.tokens === tokens) return this.#entropies;
    this.#freeEntropies();
    const list = this.#device.backend.empty("f32", [tokens]);
    this.#entropies = { tokens, list, column: list.view([tokens, 1], 0) };
    return this.#entropies;
  }

  #freeWindow(): void {
    this.#window?.counts.free();
    this.#window?.sums.free();
    this.#window?.entropy.free();
    this.#window = undefined;
  }

  #freeEntropies(): void {
    this.#entropies?.list.free();
    this.#entropies?.column.free();
    this.#entropies = undefined;
  }
}

function windowOf({ totals, perWindow }: Part, window: number): Tensor {
  return totals.rows(window * perWindow, (window + 1) * perWindow);
}
