/**
 * What a call makes for its caller, such as tensors. Disposed of, it frees these, unless the call has returned them: a call that
 * fails leaves nothing for the garbage collector.
 */
export class Made implements Disposable {
  readonly #made: Disposable[] = [];

  /** Adds what was made. */
  own<T extends Disposable | undefined>(made: T): T {
    if (made !== undefined) this.#made.push(made);
    return made;
  }

  /** What the call returns: from now on, all that was made is the caller's. */
  returned<T>(result: T): T {
    this.#made.length = 0;
    return result;
  }

  [Symbol.dispose](): void {
    for (const made of this.#made) made[Symbol.dispose]();
  }
}
