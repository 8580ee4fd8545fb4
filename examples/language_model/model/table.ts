import { dequantize, type FloatDType, permute, type QuantizedWeight, Tensor } from "moe-kernels";

const parts = ["codes", "scales", "superScales", "zeros", "superZeros"] as const;

/** A row for each token, as the files have them. */
export class Table implements Disposable {
  readonly #rows: Tensor<FloatDType> | (QuantizedWeight & Disposable);

  /** @param rows [V, H]. @throws RangeError for a quantised matrix of which several rows have a scale in common. */
  constructor(rows: Tensor<FloatDType> | (QuantizedWeight & Disposable)) {
    this.#rows = rows;
    if (rows instanceof Tensor) return;
    const [count] = rows.codes.shape;
    const shared = parts.find((part) => rows[part] !== undefined && rows[part]?.shape[0] !== count);
    if (shared !== undefined)
      throw new RangeError(`expected a table whose rows have ${shared} of their own, got ${rows.format}`);
  }

  /** The rows of tokens [T, H], in float32. */
  async read(ids: readonly number[]): Promise<Float32Array> {
    const rows = this.#rows;
    if (rows instanceof Tensor) {
      using order = rows.device.tensor(Int32Array.from(ids));
      using found = permute(rows, order);
      return Float32Array.from(await found.data());
    }
    const found: Float32Array[] = [];
    for (const id of ids) found.push(await rowOf(rows, id));
    const all = new Float32Array(found.length * (found[0]?.length ?? 0));
    for (const [i, row] of found.entries()) all.set(row, i * row.length);
    return all;
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
  }
}

async function rowOf(rows: QuantizedWeight, id: number): Promise<Float32Array> {
  const views = parts.flatMap((part) => {
    const tensor = rows[part];
    return tensor === undefined ? [] : [[part, tensor.rows(id, id + 1)] as const];
  });
  try {
    using row = dequantize({ ...rows, ...Object.fromEntries(views) });
    return await row.data();
  } finally {
    for (const [, view] of views) view.dispose();
  }
}
