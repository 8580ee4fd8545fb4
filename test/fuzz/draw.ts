import { Random } from "../../lib/testing/inputs/random.js";

/** Random choices, the same for the same seed. */
export class Draw {
  readonly random: Random;
  /** Names of fields that may be left out. */
  readonly optional = new Set<string>();

  constructor(seed: string) {
    this.random = new Random(seed);
  }

  /** Both included. */
  integer(minimum: number, maximum: number): number {
    return this.random.integer(minimum, maximum);
  }

  chance(probability: number): boolean {
    return this.random.uniform() < probability;
  }

  pick<const T>(values: readonly T[]): T {
    if (values.length === 0) throw new Error("nothing to pick from");
    return values[this.random.integer(0, values.length - 1)] as T;
  }

  /** Mostly small, sometimes 0 or 1, sometimes larger. */
  size(most: number): number {
    return this.chance(0.1)
      ? this.integer(0, Math.min(1, most))
      : this.integer(1, this.chance(0.8) ? Math.min(most, 40) : most);
  }

  /** Of the given options those that are drawn, each with this chance. */
  some<T extends object>(options: T, probability = 0.5): Partial<T> {
    for (const name of Object.keys(options)) this.optional.add(name);
    return Object.fromEntries(Object.entries(options).filter(() => this.chance(probability))) as Partial<T>;
  }
}
