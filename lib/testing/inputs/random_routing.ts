import type { Random } from "./random.js";

/** How a random routing spreads tokens over experts. */
export type Spread = "even" | "uneven" | "one_expert" | "some_dropped" | "all_dropped";

/**
 * ids [T, k], distinct within a token, and weights [T, k] in 0.1 .. 1. `uneven` prefers low ids, so that the highest
 * get no tokens; `one_expert` sends every token's first slot to the same expert and drops the rest. Dropped slots are
 * -1.
 */
export function randomRouting(random: Random, tokens: number, topK: number, experts: number, spread: Spread) {
  const ids = new Int32Array(tokens * topK);
  for (let token = 0; token < tokens; token++) {
    const limit = spread === "uneven" ? Math.max(topK, random.integer(1, Math.ceil(experts / 2))) : experts;
    const chosen = random.sample(topK, limit);
    const kept = chosen.map((id, slot) => {
      if (spread === "one_expert") return slot === 0 ? experts - 1 : -1;
      if (spread === "some_dropped") return random.uniform() < 0.3 ? -1 : id;
      return spread === "all_dropped" ? -1 : id;
    });
    ids.set(kept, token * topK);
  }
  const weights = Float32Array.from(ids, () => 0.1 + 0.9 * random.uniform());
  return { ids, weights };
}
