import { sharedSlots } from "../../operators/routing/shared_slots.js";
import { sharedSlotsBackward } from "../../operators/routing/shared_slots_backward.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { randomRouting, type Spread } from "../inputs/random_routing.js";

interface Problem {
  tokens: number;
  topK: number;
  experts: number;
  sharedExperts: number;
  /** Columns of the gate; none if left out. */
  gate?: 1 | 2;
  bank?: { first: number; count: number };
  spread?: Spread;
}

function named({ tokens, topK, experts, sharedExperts, gate, bank, spread = "even" }: Problem): string {
  const held = bank ? ` from ${bank.first} on ${bank.count}` : "";
  return `T${tokens} k${topK} E${experts}${held} and ${sharedExperts} shared, ${spread}, ${gate ?? "no"} gate outputs`;
}

function drawn({ tokens, topK, experts, gate, spread = "even" }: Problem, inputs: Inputs) {
  const routing = randomRouting(inputs.random, tokens, topK, experts, spread);
  return {
    ids: inputs.integers(routing.ids, [tokens, topK]),
    weights: inputs.floats(routing.weights, [tokens, topK], "f32") as ReturnType<typeof inputs.f32Normals>,
    rest: gate ? { gate: inputs.f32Normals([tokens, gate], 3) } : {},
  };
}

export function sharedSlotsCase(problem: Problem): Case {
  const { experts, sharedExperts, bank } = problem;
  return {
    name: named(problem),
    operator: "sharedSlots",
    tolerances: { weights: 1e-6 },
    magnitudes: { weights: 1 },
    run(inputs) {
      const { ids, weights, rest } = drawn(problem, inputs);
      const options = { numExperts: experts, sharedExperts, ...rest, ...(bank && { bank }) };
      return { ...sharedSlots(ids, weights, options) };
    },
  };
}

export function sharedSlotsBackwardCase(problem: Problem): Case {
  const { tokens, topK, sharedExperts } = problem;
  return {
    name: named(problem),
    operator: "sharedSlotsBackward",
    tolerances: { dWeights: 2e-6, dGate: 2e-6 },
    magnitudes: { dWeights: 1, dGate: topK + sharedExperts },
    run(inputs) {
      const { weights, rest } = drawn(problem, inputs);
      const gradient = inputs.f32Normals([tokens, topK + sharedExperts]);
      return { ...sharedSlotsBackward(weights, gradient, { sharedExperts, ...rest }) };
    },
  };
}

const problems: readonly Problem[] = [
  { tokens: 33, topK: 4, experts: 60, sharedExperts: 4, gate: 1 },
  { tokens: 45, topK: 1, experts: 8, sharedExperts: 1, gate: 2, spread: "some_dropped" },
  { tokens: 300, topK: 6, experts: 64, sharedExperts: 2 },
  { tokens: 9, topK: 8, experts: 256, sharedExperts: 1, bank: { first: 64, count: 128 } },
  { tokens: 9, topK: 2, experts: 16, sharedExperts: 0, gate: 2, bank: { first: 8, count: 8 } },
  { tokens: 5, topK: 2, experts: 4, sharedExperts: 1, gate: 1, spread: "all_dropped" },
  { tokens: 0, topK: 2, experts: 4, sharedExperts: 1, gate: 2 },
  { tokens: 1, topK: 1, experts: 1, sharedExperts: 0 },
];

export const sharedSlotsCases: readonly Case[] = [
  ...problems.map(sharedSlotsCase),
  ...problems.map(sharedSlotsBackwardCase),
];
