import { type Device, permute, type Tensor } from "moe-kernels";
import type { ModelConfig } from "../config/config.js";

/**
 * Turned keys, and values, of the tokens that a layer has seen. A head's rows are the weights of an expert, so they are
 * together, with room for more behind them: twice as much whenever it is full.
 */
export class KeyValueCache implements Disposable {
  readonly #heads: number;
  /** [heads · capacity, size], each of its size; from `length` on, numbers that mean nothing. */
  #keys: Tensor<"f32">;
  #values: Tensor<"f32">;
  #length = 0;

  constructor(device: Device, { keyValueHeads, headSize, valueSize }: ModelConfig, capacity = 256) {
    this.#heads = keyValueHeads;
    this.#keys = device.zeros([keyValueHeads * capacity, headSize], "f32");
    this.#values = device.zeros([keyValueHeads * capacity, valueSize], "f32");
  }

  /** How many tokens there are. */
  get length(): number {
    return this.#length;
  }

  /** How many tokens there is room for. */
  get capacity(): number {
    return this.#keys.shape[0] / this.#heads;
  }

  /** Views [heads, capacity, size], to be disposed of. */
  keys(): Tensor<"f32"> {
    return this.#keys.reshape([this.#heads, this.capacity, this.#keys.shape[1]]);
  }

  /** As `keys`. */
  values(): Tensor<"f32"> {
    return this.#values.reshape([this.#heads, this.capacity, this.#values.shape[1]]);
  }

  /** Adds tokens. @param keys and @param values [T, heads · size], each of its size. */
  add(keys: Float32Array, values: Float32Array): void {
    const tokens = keys.length / (this.#heads * this.#keys.shape[1]);
    while (this.#length + tokens > this.capacity) this.#grow();
    for (let head = 0; head < this.#heads; head++) {
      const begin = head * this.capacity + this.#length;
      using keyRows = this.#keys.rows(begin, begin + tokens);
      using valueRows = this.#values.rows(begin, begin + tokens);
      keyRows.write(this.#rowsOf(head, keys, tokens));
      valueRows.write(this.#rowsOf(head, values, tokens));
    }
    this.#length += tokens;
  }

  /** A head's rows of [T, heads · size]. */
  #rowsOf(head: number, all: Float32Array, tokens: number): Float32Array {
    const rows = new Float32Array(all.length / this.#heads);
    const size = rows.length / tokens;
    const width = this.#heads * size;
    for (let from = head * size, to = 0; to < rows.length; from += width, to += size) {
      rows.set(all.subarray(from, from + size), to);
    }
    return rows;
  }

  #grow(): void {
    const { capacity } = this;
    // The room behind a head's rows begins as copies of them.
    const rows = Int32Array.from({ length: 2 * this.#keys.shape[0] }, (_, row) => {
      return Math.floor(row / (2 * capacity)) * capacity + (row % capacity);
    });
    using order = this.#keys.device.tensor(rows);
    using keys = this.#keys;
    using values = this.#values;
    this.#keys = permute(keys, order);
    this.#values = permute(values, order);
  }

  [Symbol.dispose](): void {
    this.#keys.dispose();
    this.#values.dispose();
  }
}
