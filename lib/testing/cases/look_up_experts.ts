import { lookUpExperts } from "../../operators/routing/look_up_experts.js";
import type { Case } from "../case.js";
import { randomIndices } from "../inputs/random_indices.js";
import { randomRouting } from "../inputs/random_routing.js";

interface Problem {
  tokens: number;
  vocabulary: number;
  topK: number;
}

export function lookUpExpertsCase({ tokens, vocabulary, topK }: Problem): Case {
  return {
    name: `T${tokens} V${vocabulary} k${topK}`,
    operator: "lookUpExperts",
    tolerances: {},
    run(inputs) {
      const { random } = inputs;
      const { ids } = randomRouting(random, vocabulary, topK, 2 * topK, "even");
      const table = inputs.integers(ids, [vocabulary, topK]);
      // -1 is padding.
      const tokenIds = randomIndices(random, tokens, vocabulary);
      return { ids: lookUpExperts(table, inputs.integers(tokenIds, [tokens])) };
    },
  };
}

export const lookUpExpertsCases: readonly Case[] = [
  { tokens: 0, vocabulary: 5, topK: 2 },
  { tokens: 1, vocabulary: 1, topK: 1 },
  { tokens: 37, vocabulary: 50, topK: 6 },
  { tokens: 300, vocabulary: 7, topK: 3 },
  { tokens: 5000, vocabulary: 1000, topK: 8 },
].map(lookUpExpertsCase);
