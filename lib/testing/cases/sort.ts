import { sort } from "../../operators/routing/sort.js";
import type { Case } from "../case.js";
import { randomRouting, type Spread } from "../inputs/random_routing.js";

interface Problem {
  tokens: number;
  topK: number;
  experts: number;
  spread?: Spread;
}

/** Initial content of the outputs: not a valid row or token, so that it shows if left unwritten. */
const unwritten = 0x7eadbeef;

export function sortCase({ tokens, topK, experts, spread = "even" }: Problem): Case {
  return {
    name: `T${tokens} k${topK} E${experts} ${spread}`,
    operator: "sort",
    tolerances: {},
    run(inputs) {
      const { ids } = randomRouting(inputs.random, tokens, topK, experts, spread);
      const blank = (shape: number[]) =>
        inputs.integers(new Int32Array(shape.reduce((a, b) => a * b)).fill(unwritten), shape);
      const out = {
        offsets: blank([experts + 1]),
        tokensPerExpert: blank([experts]),
        tokenOfRow: blank([tokens * topK]),
        rowOfSlot: blank([tokens, topK]),
      };
      return { ...sort(inputs.integers(ids, [tokens, topK]), { numExperts: experts, out }) };
    },
  };
}

export const sortCases: readonly Case[] = (
  [
    { tokens: 0, topK: 2, experts: 8 },
    { tokens: 1, topK: 1, experts: 1 },
    { tokens: 7, topK: 1, experts: 1 },
    { tokens: 33, topK: 2, experts: 8 },
    { tokens: 45, topK: 8, experts: 64, spread: "uneven" },
    { tokens: 45, topK: 6, experts: 72, spread: "some_dropped" },
    { tokens: 51, topK: 4, experts: 60, spread: "one_expert" },
    { tokens: 9, topK: 3, experts: 5, spread: "all_dropped" },
    { tokens: 13, topK: 8, experts: 8 },
    { tokens: 33, topK: 22, experts: 512, spread: "uneven" },
    { tokens: 17, topK: 16, experts: 896 },
    { tokens: 7, topK: 10, experts: 1100, spread: "some_dropped" },
    { tokens: 2000, topK: 8, experts: 128 },
    { tokens: 5000, topK: 2, experts: 8, spread: "some_dropped" },
    // More tokens than 16 bits count, and experts with as many rows.
    { tokens: 70_000, topK: 2, experts: 2 },
  ] satisfies Problem[]
).map(sortCase);
