import { expertChoiceBackward } from "../../operators/routing/expert_choice_backward.js";
import {
  type LimitCapacityBackwardOptions,
  limitCapacityBackward,
} from "../../operators/routing/limit_capacity_backward.js";
import type { Case } from "../case.js";
import { randomRouting } from "../inputs/random_routing.js";

interface Problem {
  tokens: number;
  topK: number;
  renormalize?: LimitCapacityBackwardOptions["renormalize"];
}

export function limitCapacityBackwardCase({ tokens, topK, renormalize = false }: Problem): Case {
  const how = typeof renormalize === "object" ? `by ${renormalize.by} * ${renormalize.scale ?? 1}` : `${renormalize}`;
  return {
    name: `T${tokens} k${topK} renormalized: ${how}`,
    operator: "limitCapacityBackward",
    tolerances: { dWeights: 2e-6 },
    magnitudes: { dWeights: 1 },
    run(inputs) {
      const { random } = inputs;
      const shape = [tokens, topK];
      const { ids, weights } = randomRouting(random, tokens, topK, topK + 5, "some_dropped");
      // No token's weights sum to about 0.
      const positive = inputs.floats(
        weights.map((weight) => 0.5 + Math.abs(weight)),
        shape,
        "f32",
      );
      const kept = {
        ids: inputs.integers(
          ids.map((id) => (random.uniform() < 0.3 ? -1 : id)),
          shape,
        ),
      };
      const routing = { ids: inputs.integers(ids, shape), weights: positive as ReturnType<typeof inputs.f32Normals> };
      return { dWeights: limitCapacityBackward(routing, kept, inputs.f32Normals(shape), { renormalize }) };
    },
  };
}

export function expertChoiceBackwardCase(tokens: number, experts: number, scoring: "softmax" | "sigmoid"): Case {
  return {
    name: `T${tokens} E${experts} ${scoring}`,
    operator: "expertChoiceBackward",
    tolerances: { dLogits: 1e-6 },
    magnitudes: { dLogits: 1 },
    run(inputs) {
      const shape = [tokens, experts];
      const ids = Int32Array.from({ length: tokens * experts }, (_, i) =>
        inputs.random.uniform() < 0.3 ? i % experts : -1,
      );
      const logits = inputs.normals(shape, "bf16");
      const routing = { ids: inputs.integers(ids, shape) };
      return { dLogits: expertChoiceBackward(logits, routing, inputs.f32Normals(shape), { scoring }) };
    },
  };
}

export const limitCapacityBackwardCases: readonly Case[] = [
  ...[false, true, { by: "kept", scale: 2.5 } as const, { by: "chosen" } as const].flatMap((renormalize) => [
    limitCapacityBackwardCase({ tokens: 33, topK: 4, renormalize }),
    limitCapacityBackwardCase({ tokens: 300, topK: 1, renormalize }),
  ]),
  limitCapacityBackwardCase({ tokens: 0, topK: 2 }),
  expertChoiceBackwardCase(33, 8, "softmax"),
  expertChoiceBackwardCase(21, 45, "sigmoid"),
];
