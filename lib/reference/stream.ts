import { MoeError } from "../errors.js";

/**
 * What work leaves behind beside its outputs. As this device works at the call, that is all there is of a stream: the
 * first error found in the data since the last wait, owed to the next, and the count behind `device.warnings`.
 */
export class Stream {
  nonFiniteLogitRows = 0;
  #error: MoeError | undefined;

  report(error: MoeError): void {
    this.#error ??= error;
  }

  /** Throws the error owed, once. */
  wait(): void {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
  }

  /** `indices`, with -1 in place of every one outside -1 .. limit-1; the first such is reported. */
  checkIndices(name: string, indices: Int32Array, limit: number): Int32Array {
    return indices.map((index, position) => {
      if (index >= -1 && index < limit) return index;
      const range = limit > 0 ? `-1 or 0 .. ${limit - 1}` : "-1";
      this.report(new MoeError("ID_OUT_OF_RANGE", `${name}[${position}]: expected ${range}, got ${index}`));
      return -1;
    });
  }

  /**
   * `offsets`, in which every one from the first that descends or lies outside 0 .. rows on repeats the one before it,
   * so that the rows behind belong to no expert; that first one is reported.
   */
  checkOffsets(name: string, offsets: Int32Array, rows: number): Int32Array {
    let last = 0;
    const bad = offsets.findIndex((offset) => {
      const fits = offset >= last && offset <= rows;
      if (fits) last = offset;
      return !fits;
    });
    if (bad < 0) return offsets;
    const message = `${name}[${bad}]: expected ${last} .. ${rows}, not descending, got ${offsets[bad]}`;
    this.report(new MoeError("ID_OUT_OF_RANGE", message));
    return offsets.slice().fill(last, bad);
  }
}
