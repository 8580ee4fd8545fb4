import { MoeError } from "../../core/errors.js";
import type { Shape } from "../../core/tensors/shape.js";

/** An i32 tensor. */
interface Indices {
  readonly shape: Shape;
  integers(): Int32Array;
}

/**
 * What work leaves behind besides its outputs. This device computes within each call, so its stream is only the first
 * error found in the data since the last wait, to be thrown by the next, and the count behind `device.warnings`.
 */
export class Stream {
  nonFiniteLogitRows = 0;
  #error: MoeError | undefined;

  report(error: MoeError): void {
    this.#error ??= error;
  }

  /** Throws the pending error, once. */
  wait(): void {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
  }

  /**
   * The values of `indices`, with every one outside -1 .. limit-1 replaced by -1 and the first such one reported.
   * `what` names what they index. In a matrix only the first `checkedColumns` columns are checked.
   */
  checkIndices(
    name: string,
    indices: Indices,
    what: string,
    limit: number,
    isChecked: (row: number, column: number) => boolean = () => true,
  ): Int32Array {
    const columns = indices.shape[1];
    return indices.integers().map((index, position) => {
      const [row, column] = [Math.floor(position / (columns ?? 1)), position % (columns ?? 1)];
      if ((index >= -1 && index < limit) || !isChecked(row, column)) return index;
      const place = columns === undefined ? position : `${row}, ${column}`;
      const range = limit > 0 ? `-1 or ${what} from 0 to ${limit - 1}` : "-1, the only valid value";
      this.report(new MoeError("ID_OUT_OF_RANGE", `${name}[${place}]: expected ${range}, got ${index}`));
      return -1;
    });
  }

  /**
   * The values of `offsets`. One that descends or lies outside 0 .. rows is replaced by the one before it, so that its
   * expert gets no rows; the first such one is reported.
   */
  checkOffsets(name: string, offsets: Indices, rows: number): Int32Array {
    let lowest = 0;
    return offsets.integers().map((offset, position) => {
      if (offset >= lowest && offset <= rows) lowest = offset;
      else {
        const message = `${name}[${position}]: expected from ${lowest} to ${rows}, got ${offset}`;
        this.report(new MoeError("ID_OUT_OF_RANGE", message));
      }
      return lowest;
    });
  }
}
