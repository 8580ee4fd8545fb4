/** A cache of experts that evicts the one whose last use is longest ago, or the lowest of several. */
export class LruSlots {
  readonly #slots: number;
  /** The call in which each resident expert was last used. */
  readonly #lastUse = new Map<number, number>();
  #calls = 0;
  hits = 0;
  misses = 0;
  evictions = 0;

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** A call that uses these experts, of which there are no more than slots. */
  call(experts: readonly number[]): void {
    this.#calls++;
    const missing = experts.filter((expert) => !this.#lastUse.has(expert));
    this.hits += experts.length - missing.length;
    this.misses += missing.length;
    for (const expert of experts) if (this.#lastUse.has(expert)) this.#lastUse.set(expert, this.#calls);
    for (const expert of missing) {
      if (this.#lastUse.size === this.#slots) this.#evict();
      this.#lastUse.set(expert, this.#calls);
    }
  }

  get resident(): number[] {
    return [...this.#lastUse.keys()].sort((a, b) => a - b);
  }

  #evict(): void {
    const [oldest] = [...this.#lastUse].sort(([a, used], [b, other]) => used - other || a - b);
    this.#lastUse.delete((oldest as [number, number])[0]);
    this.evictions++;
  }
}
