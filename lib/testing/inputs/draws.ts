import type { Random } from "./random.js";

/** What was drawn, and the state of the generator then. */
interface Drawn {
  readonly value: unknown;
  readonly state: Uint32Array;
}

/**
 * What the runs of a case draw from one seed: the same values in the same order. Drawing them takes longer than most
 * devices compute, so the first run keeps them for the others.
 */
export class Draws {
  readonly seed: string;
  readonly #kept: Drawn[] = [];

  constructor(seed: string) {
    this.seed = seed;
  }

  /** The value that a run draws as its `index`th from `random`. */
  value<T>(index: number, random: Random, draw: (random: Random) => T): T {
    const known = this.#kept[index];
    if (known !== undefined) {
      random.state = known.state;
      return known.value as T;
    }
    const value = draw(random);
    this.#kept[index] = { value, state: random.state };
    return value;
  }
}

let last: { readonly source: object; readonly draws: Draws } | undefined;

/** The draws of a case; those of its last run if no other case has run since, as all of a table would fill the memory. */
export function drawsOf(source: object, seed: string): Draws {
  if (last?.source !== source || last.draws.seed !== seed) last = { source, draws: new Draws(seed) };
  return last.draws;
}
