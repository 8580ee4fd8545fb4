import * as api from "../../../lib/index.js";
import { capacity, E, H, type Part, rule, size, T, tensorsOf } from "./call.js";

/** Scores, choices and slots, noise included. */
export function routingCalls(device: api.Device): Part {
  const { floats, integers, logits, routing, tokenMask } = tensorsOf(device);
  return {
    calls: [
      {
        name: "routerProjection",
        args: [floats(T, H), floats(E, H)],
        call: api.routerProjection,
        valid: [{ bias: floats(E), out: floats(T, E) }],
      },
      {
        name: "gating",
        args: [logits],
        call: api.gating,
        valid: [
          { ...rule, selectionBias: floats(E), out: routing() },
          { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
        ],
      },
      {
        name: "routerProjectionBackward",
        args: [floats(T, H), floats(E, H), floats(T, E)],
        call: api.routerProjectionBackward,
        valid: [{ bias: true, out: { dx: floats(T, H), dWeight: floats(E, H), dBias: floats(E) } }],
      },
      {
        name: "gatingWeights",
        args: [logits, { ids: integers(T, 2) }],
        call: api.gatingWeights,
        valid: [
          { ...rule, out: floats(T, 2) },
          { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
        ],
      },
      {
        name: "lookUpExperts",
        args: [integers(E, 2), integers(T)],
        call: api.lookUpExperts,
        valid: [{ out: integers(T, 2) }],
      },
      {
        name: "gatingBackward",
        args: [logits, { ids: integers(T, 2) }, floats(T, 2)],
        call: api.gatingBackward,
        valid: [
          { ...rule, out: floats(T, E) },
          { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
        ],
      },
      {
        name: "hierarchicalGating",
        args: [floats(T, 2), logits],
        call: api.hierarchicalGating,
        valid: [
          { groups: { topK: 1, normalize: true }, experts: { ...rule, groups: { count: 3, top: 2 } }, out: routing() },
        ],
      },
      {
        name: "hierarchicalGatingBackward",
        args: [floats(T, 2), logits, { ids: integers(T, 2) }, floats(T, 2)],
        call: api.hierarchicalGatingBackward,
        valid: [
          {
            groups: { topK: 1, normalize: true },
            experts: { ...rule, groups: { count: 3, top: 2 } },
            out: { dGroupLogits: floats(T, 2), dLogits: floats(T, E) },
          },
        ],
      },
      {
        name: "limitCapacity",
        args: [routing()],
        call: api.limitCapacity,
        valid: [
          { numExperts: E, ...capacity, sequenceLength: 2, out: routing() },
          { numExperts: E, tokens: 1 },
        ],
      },
      {
        name: "limitCapacityBackward",
        args: [routing(), { ids: integers(T, 2) }, floats(T, 2)],
        call: api.limitCapacityBackward,
        valid: [{ renormalize: { by: "chosen", scale: 2 }, out: floats(T, 2) }],
      },
      { name: "expertCapacity", args: [], after: [T, 2, E], call: api.expertCapacity, valid: [size, { tokens: 1 }] },
      {
        name: "expertChoice",
        args: [logits],
        call: api.expertChoice,
        valid: [
          {
            ...size,
            scoring: "sigmoid",
            out: { tokens: integers(E, 2), tokenWeights: floats(E, 2), ids: integers(T, E), weights: floats(T, E) },
          },
          { tokens: 1 },
        ],
      },
      {
        name: "expertChoiceBackward",
        args: [logits, { ids: integers(T, E) }, floats(T, E)],
        call: api.expertChoiceBackward,
        valid: [{ scoring: "sigmoid", out: floats(T, E) }],
      },
      {
        name: "expertSlots",
        args: [integers(T, 2)],
        call: api.expertSlots,
        valid: [{ numExperts: E, capacity: 2, out: integers(E, 2) }],
      },
      {
        name: "sharedSlots",
        args: [integers(T, 2), floats(T, 2)],
        call: api.sharedSlots,
        valid: [
          {
            numExperts: E,
            sharedExperts: 1,
            bank: { first: 2, count: 3 },
            gate: floats(T, 2),
            out: { ids: integers(T, 3), weights: floats(T, 3) },
          },
        ],
      },
      {
        name: "sharedSlotsBackward",
        args: [floats(T, 2), floats(T, 3)],
        call: api.sharedSlotsBackward,
        valid: [{ sharedExperts: 1, gate: floats(T, 1), out: { dWeights: floats(T, 2), dGate: floats(T, 1) } }],
      },
      {
        name: "sort",
        args: [integers(T, 2)],
        call: api.sort,
        valid: [
          {
            numExperts: E,
            out: {
              offsets: integers(E + 1),
              tokensPerExpert: integers(E),
              tokenOfRow: integers(2 * T),
              rowOfSlot: integers(T, 2),
            },
          },
        ],
      },
      {
        name: "updateSelectionBias",
        args: [floats(E), integers(1, E)],
        call: api.updateSelectionBias,
        valid: [{ rate: 0.1, out: floats(E) }],
      },
      {
        name: "random",
        args: [device, [T, E]],
        call: api.random,
        valid: [{ seed: 1n, distribution: "normal", offset: 3, out: floats(T, E) }],
      },
      { name: "jitter", args: [floats(T, H)], call: api.jitter, valid: [{ epsilon: 0.1, seed: 1, out: floats(T, H) }] },
      {
        name: "noisyLogits",
        args: [logits, logits],
        call: api.noisyLogits,
        valid: [
          { seed: 1, offset: 2, epsilon: 0.1, out: { logits: floats(T, E), deviation: floats(T, E) } },
          { noise: floats(T, E) },
        ],
      },
      {
        name: "noisyLogitsBackward",
        args: [logits, floats(T, E)],
        call: api.noisyLogitsBackward,
        valid: [{ seed: 1, offset: 2, dDeviation: floats(T, E), out: floats(T, E) }, { noise: floats(T, E) }],
      },
      {
        name: "expertLoad",
        args: [logits, logits, logits],
        call: api.expertLoad,
        valid: [{ topK: 2, groups: { ids: integers(T, 1), load: floats(2) }, tokenMask, out: floats(E) }],
      },
      {
        name: "expertLoadBackward",
        args: [logits, logits, logits, floats(E)],
        call: api.expertLoadBackward,
        valid: [
          {
            topK: 2,
            groups: { ids: integers(T, 1), load: floats(2) },
            tokenMask,
            out: { dClean: floats(T, E), dNoisy: floats(T, E), dDeviation: floats(T, E), dGroupLoad: floats(2) },
          },
        ],
      },
    ],
  };
}
