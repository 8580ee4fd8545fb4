/** Tensors that are needed until all work that uses them is enqueued. */
export class Temporaries implements Disposable {
  readonly #kept: Disposable[] = [];

  /** Keeps a tensor until then. */
  keep<T extends Disposable>(tensor: T): T {
    this.#kept.push(tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#kept) tensor[Symbol.dispose]();
  }
}
