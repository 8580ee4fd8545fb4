import type { Drop } from "../../core/layer/routing_rule.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { Capacity, Renormalize } from "../../operators/routing/capacity.js";
import { expertSlots } from "../../operators/routing/expert_slots.js";
import { limitCapacity } from "../../operators/routing/limit_capacity.js";
import type { Case } from "../case.js";
import type { Random } from "../inputs/random.js";
import { randomRouting, type Spread } from "../inputs/random_routing.js";

interface Problem {
  tokens: number;
  topK: number;
  experts: number;
  capacity: Capacity;
  spread?: Spread;
  /** How the weights are drawn; by default all differ. */
  kind?: keyof typeof weightKinds;
  /** Default one. */
  sequences?: number;
}

const specials = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0];

const weightKinds = {
  different: (random: Random) => 0.1 + 0.9 * random.uniform(),
  /** Only positions decide. */
  equal: () => 0.5,
  tied: (random: Random) => random.integer(-2, 2) / 4,
  /** Kept weights pass through unchanged, so only the ids are compared. */
  special: (random: Random) => specials[random.integer(0, specials.length - 1)] as number,
} as const;

function renormalizationName(renormalize: boolean | Renormalize): string {
  if (typeof renormalize === "boolean") return renormalize ? "renormalized" : "";
  return `renormalized by ${renormalize.by} to ${renormalize.scale}`;
}

export function limitCapacityCase({ capacity, ...problem }: Problem): Case {
  const { tokens, topK, experts, spread = "even", kind = "different", sequences = 1 } = problem;
  const size = capacity.tokens === undefined ? `factor ${capacity.factor}` : `capacity ${capacity.tokens}`;
  const { drop = "position", renormalize = false } = capacity;
  const per = capacity.per === "sequence" ? `in ${sequences} sequences` : "";
  const details = [size, per, drop, renormalizationName(renormalize), spread, `${kind} weights`];
  return {
    name: [`T${tokens} k${topK} E${experts}`, ...details.filter(Boolean)].join(" "),
    operator: "limitCapacity",
    tolerances: renormalize ? { weights: 1e-6 } : {},
    run(inputs) {
      const { random } = inputs;
      const shape = [tokens, topK];
      const ids = inputs.integers(randomRouting(random, tokens, topK, experts, spread).ids, shape);
      const values = Float32Array.from({ length: tokens * topK }, () => weightKinds[kind](random));
      const weights = inputs.floats(values, shape, "f32") as Tensor<"f32">;
      const kept = limitCapacity(
        { ids, weights },
        {
          ...capacity,
          numExperts: experts,
          ...(capacity.per === "sequence" && tokens > 0 ? { sequenceLength: tokens / sequences } : {}),
        },
      );
      if (kind !== "special") return { ...kept };
      kept.weights.dispose();
      return { ids: kept.ids };
    },
  };
}

const byChosen: Renormalize = { by: "chosen", scale: 0.8 };

const everyDrop: readonly Drop[] = ["position", "prioritized", "probability"];

export const limitCapacityCases: readonly Case[] = [
  ...everyDrop.flatMap((drop) =>
    (
      [
        { tokens: 33, topK: 2, experts: 6, capacity: { tokens: 7 } },
        { tokens: 45, topK: 4, experts: 9, capacity: { factor: 0.6, renormalize: true } },
        { tokens: 60, topK: 3, experts: 5, capacity: { factor: 0.8, per: "sequence" }, sequences: 4 },
        { tokens: 51, topK: 3, experts: 7, capacity: { tokens: 5 }, kind: "tied" },
        { tokens: 51, topK: 3, experts: 7, capacity: { tokens: 5 }, kind: "equal" },
        { tokens: 51, topK: 3, experts: 7, capacity: { tokens: 5 }, kind: "special" },
        { tokens: 45, topK: 6, experts: 72, capacity: { tokens: 1, renormalize: byChosen }, spread: "some_dropped" },
        { tokens: 130, topK: 2, experts: 8, capacity: { tokens: 17 }, spread: "one_expert" },
        { tokens: 2000, topK: 8, experts: 64, capacity: { factor: 0.9, round: "down" }, spread: "uneven" },
      ] satisfies Problem[]
    ).map((problem) => limitCapacityCase({ ...problem, capacity: { ...problem.capacity, drop } })),
  ),
  ...(
    [
      { tokens: 0, topK: 2, experts: 8, capacity: { factor: 1 } },
      { tokens: 0, topK: 2, experts: 8, capacity: { factor: 1, per: "sequence" } },
      { tokens: 1, topK: 1, experts: 1, capacity: { tokens: 1 } },
      { tokens: 13, topK: 2, experts: 4, capacity: { tokens: 0 } },
      { tokens: 13, topK: 2, experts: 4, capacity: { tokens: 0, drop: "probability", renormalize: true } },
      { tokens: 13, topK: 2, experts: 4, capacity: { tokens: 13, drop: "probability" } },
      { tokens: 13, topK: 2, experts: 4, capacity: { factor: 1e300 } },
      { tokens: 9, topK: 3, experts: 5, capacity: { factor: 1 }, spread: "all_dropped" },
      { tokens: 33, topK: 4, experts: 1100, capacity: { tokens: 1 }, spread: "uneven" },
      { tokens: 300, topK: 2, experts: 3, capacity: { tokens: 1, per: "sequence" }, sequences: 300 },
      { tokens: 5000, topK: 1, experts: 2, capacity: { factor: 1, drop: "prioritized" }, spread: "uneven" },
    ] satisfies Problem[]
  ).map(limitCapacityCase),
];

export function expertSlotsCase(tokens: number, topK: number, experts: number, capacity: number, spread: Spread): Case {
  return {
    name: `T${tokens} k${topK} E${experts} capacity ${capacity} ${spread}`,
    operator: "expertSlots",
    tolerances: {},
    run(inputs) {
      const { ids } = randomRouting(inputs.random, tokens, topK, experts, spread);
      const slots = expertSlots(inputs.integers(ids, [tokens, topK]), { numExperts: experts, capacity });
      return { slots };
    },
  };
}

export const expertSlotsCases: readonly Case[] = [
  expertSlotsCase(33, 2, 8, 13, "even"),
  expertSlotsCase(45, 6, 72, 3, "some_dropped"),
  expertSlotsCase(51, 4, 60, 51, "one_expert"),
  expertSlotsCase(9, 3, 5, 2, "all_dropped"),
  expertSlotsCase(0, 2, 8, 4, "even"),
  expertSlotsCase(7, 2, 8, 0, "even"),
  expertSlotsCase(2000, 8, 128, 100, "uneven"),
  expertSlotsCase(7, 10, 1100, 2, "even"),
];
