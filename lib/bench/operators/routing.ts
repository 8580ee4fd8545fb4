import type { OperatorName } from "../../core/operators/table.js";
import { expertChoice } from "../../operators/routing/expert_choice.js";
import { gating } from "../../operators/routing/gating.js";
import { gatingBackward } from "../../operators/routing/gating_backward.js";
import { checkGating, type GatingRuleOptions, gatingRule } from "../../operators/routing/gating_options.js";
import { gatingWeights } from "../../operators/routing/gating_weights.js";
import { hierarchicalGating } from "../../operators/routing/hierarchical_gating.js";
import { hierarchicalGatingBackward } from "../../operators/routing/hierarchical_gating_backward.js";
import { lookUpExperts } from "../../operators/routing/look_up_experts.js";
import { routerProjection } from "../../operators/routing/router_projection.js";
import { routerProjectionBackward } from "../../operators/routing/router_projection_backward.js";
import { sharedSlots } from "../../operators/routing/shared_slots.js";
import { sharedSlotsBackward } from "../../operators/routing/shared_slots_backward.js";
import { sort } from "../../operators/routing/sort.js";
import type { Draw } from "./draw.js";
import { f32, i32, type OperatorCase, type Sizes } from "./operator_case.js";

const routerWeight = (draw: Draw, { numExperts, hiddenSize, dtype }: Sizes) =>
  draw.normals([numExperts, hiddenSize], dtype, hiddenSize ** -0.5);

/** G neighbouring groups, about as many as each has experts; a token chooses one and k experts in it, or all that it has. */
function hierarchy({ numExperts, topK }: Sizes) {
  let groups = Math.floor(Math.sqrt(numExperts));
  while (numExperts % groups !== 0) groups--;
  const chosen = Math.min(topK, numExperts / groups);
  const rules: { groups: GatingRuleOptions; experts: GatingRuleOptions } = {
    groups: { topK: 1 },
    experts: { topK: chosen, normalize: true },
  };
  const asDevices = {
    groups: checkGating(gatingRule(rules.groups, "groups"), groups),
    experts: checkGating(gatingRule(rules.experts, "experts"), numExperts / groups),
  };
  return { groups, chosen, rules, asDevices };
}

/** Ids of experts that are all in one group. */
function idsInGroups(draw: Draw, sizes: Sizes) {
  const { groups, chosen } = hierarchy(sizes);
  const size = sizes.numExperts / groups;
  const { ids } = draw.routing(sizes.tokens, chosen, size);
  for (let token = 0; token < sizes.tokens; token++) {
    const first = size * draw.random.integer(0, groups - 1);
    for (let slot = token * chosen; slot < (token + 1) * chosen; slot++)
      ids.data[slot] = first + (ids.data[slot] as number);
  }
  return ids;
}

/** C: what an even share of the choices is. */
const evenShare = ({ rows, tokens, numExperts }: Sizes): number =>
  Math.min(tokens, Math.max(1, Math.ceil(rows / numExperts)));

/** V of hash routing; layers have no such size. */
const vocabulary = 4096;

const operator = (name: OperatorName) => ({ operator: name, name });

export const routingCases: readonly OperatorCase[] = [
  {
    ...operator("routerProjection"),
    inputs: (draw, sizes) => ({
      x: draw.normals([sizes.tokens, sizes.hiddenSize], sizes.dtype),
      weight: routerWeight(draw, sizes),
    }),
    outputs: ({ tokens, numExperts }) => ({ logits: f32(tokens, numExperts) }),
    operations: ({ tokens, hiddenSize, numExperts }) => 2 * tokens * hiddenSize * numExperts,
    call:
      () =>
      ({ x, weight }, { logits }) =>
        void routerProjection(x, weight, { out: logits }),
  },
  {
    ...operator("routerProjectionBackward"),
    inputs: (draw, sizes) => ({
      x: draw.normals([sizes.tokens, sizes.hiddenSize], sizes.dtype),
      weight: routerWeight(draw, sizes),
      dLogits: draw.normals([sizes.tokens, sizes.numExperts]),
    }),
    outputs: ({ tokens, hiddenSize, numExperts, dtype }) => ({
      dx: { shape: [tokens, hiddenSize], dtype },
      dWeight: f32(numExperts, hiddenSize),
    }),
    operations: ({ tokens, hiddenSize, numExperts }) => 4 * tokens * hiddenSize * numExperts,
    call:
      () =>
      ({ x, weight, dLogits }, { dx, dWeight }) =>
        void routerProjectionBackward(x, weight, dLogits, { out: { dx, dWeight } }),
  },
  {
    ...operator("gating"),
    inputs: (draw, { tokens, numExperts, gating: rule }) => ({ logits: draw.logits(tokens, numExperts), rule }),
    outputs: ({ tokens, topK }) => ({ ids: i32(tokens, topK), weights: f32(tokens, topK) }),
    call:
      ({ rule }) =>
      ({ logits }, { ids, weights }) =>
        void gating(logits, { ...rule, out: { ids, weights } }),
  },
  {
    ...operator("gatingWeights"),
    inputs: (draw, { tokens, numExperts, topK, gating: rule }) => ({
      logits: draw.logits(tokens, numExperts),
      ids: draw.routing(tokens, topK, numExperts).ids,
      rule,
    }),
    outputs: ({ tokens, topK }) => ({ weights: f32(tokens, topK) }),
    call:
      ({ rule }) =>
      ({ logits, ids }, { weights }) =>
        void gatingWeights(logits, { ids }, { ...rule, out: weights }),
  },
  {
    ...operator("gatingBackward"),
    inputs: (draw, { tokens, numExperts, topK, gating: rule }) => ({
      logits: draw.logits(tokens, numExperts),
      ids: draw.routing(tokens, topK, numExperts).ids,
      dWeights: draw.normals([tokens, topK]),
      rule,
    }),
    outputs: ({ tokens, numExperts }) => ({ dLogits: f32(tokens, numExperts) }),
    call:
      ({ rule }) =>
      ({ logits, ids, dWeights }, { dLogits }) =>
        void gatingBackward(logits, { ids }, dWeights, { ...rule, out: dLogits }),
  },
  {
    ...operator("hierarchicalGating"),
    inputs: (draw, sizes) => ({
      groupLogits: draw.logits(sizes.tokens, hierarchy(sizes).groups),
      logits: draw.logits(sizes.tokens, sizes.numExperts),
      ...hierarchy(sizes).asDevices,
    }),
    outputs: (sizes) => {
      const shape = [sizes.tokens, hierarchy(sizes).chosen] as const;
      return { ids: i32(...shape), weights: f32(...shape) };
    },
    call: (sizes) => {
      const { rules } = hierarchy(sizes);
      return ({ groupLogits, logits }, { ids, weights }) =>
        void hierarchicalGating(groupLogits, logits, { ...rules, out: { ids, weights } });
    },
  },
  {
    ...operator("hierarchicalGatingBackward"),
    inputs: (draw, sizes) => ({
      groupLogits: draw.logits(sizes.tokens, hierarchy(sizes).groups),
      logits: draw.logits(sizes.tokens, sizes.numExperts),
      ids: idsInGroups(draw, sizes),
      dWeights: draw.normals([sizes.tokens, hierarchy(sizes).chosen]),
      ...hierarchy(sizes).asDevices,
    }),
    outputs: (sizes) => ({
      dGroupLogits: f32(sizes.tokens, hierarchy(sizes).groups),
      dLogits: f32(sizes.tokens, sizes.numExperts),
    }),
    call: (sizes) => {
      const { rules } = hierarchy(sizes);
      return ({ groupLogits, logits, ids, dWeights }, out) => {
        const { dGroupLogits, dLogits } = out;
        hierarchicalGatingBackward(groupLogits, logits, { ids }, dWeights, {
          ...rules,
          out: { dGroupLogits, dLogits },
        });
      };
    },
  },
  {
    ...operator("expertChoice"),
    inputs: (draw, { tokens, numExperts }) => ({ logits: draw.logits(tokens, numExperts), scoring: "sigmoid" }),
    outputs: (sizes) => {
      const { tokens, numExperts } = sizes;
      const chosen = [numExperts, evenShare(sizes)] as const;
      return {
        tokens: i32(...chosen),
        tokenWeights: f32(...chosen),
        ids: i32(tokens, numExperts),
        weights: f32(tokens, numExperts),
      };
    },
    call: (sizes) => {
      const options = { tokens: evenShare(sizes), scoring: "sigmoid" } as const;
      return ({ logits }, { tokens, tokenWeights, ids, weights }) =>
        void expertChoice(logits, { ...options, out: { tokens, tokenWeights, ids, weights } });
    },
  },
  {
    ...operator("lookUpExperts"),
    inputs: (draw, { tokens, topK, numExperts }) => ({
      table: draw.routing(vocabulary, topK, numExperts).ids,
      tokenIds: draw.integers([tokens], vocabulary),
    }),
    outputs: ({ tokens, topK }) => ({ ids: i32(tokens, topK) }),
    call:
      () =>
      ({ table, tokenIds }, { ids }) =>
        void lookUpExperts(table, tokenIds, { out: ids }),
  },
  {
    ...operator("sharedSlots"),
    inputs: (draw, { tokens, topK, numExperts }) => ({
      ...draw.routing(tokens, topK, numExperts),
      gate: draw.normals([tokens, 1]),
      numExperts,
      bankFirst: 0,
      bankCount: numExperts,
      sharedExperts: 1,
    }),
    outputs: ({ tokens, topK }) => ({ slotIds: i32(tokens, topK + 1), slotWeights: f32(tokens, topK + 1) }),
    call:
      ({ numExperts }) =>
      ({ ids, weights, gate }, { slotIds, slotWeights }) =>
        void sharedSlots(ids, weights, {
          numExperts,
          sharedExperts: 1,
          gate,
          out: { ids: slotIds, weights: slotWeights },
        }),
  },
  {
    ...operator("sharedSlotsBackward"),
    inputs: (draw, { tokens, topK, numExperts }) => ({
      weights: draw.routing(tokens, topK, numExperts).weights,
      gate: draw.normals([tokens, 1]),
      dSlotWeights: draw.normals([tokens, topK + 1]),
    }),
    outputs: ({ tokens, topK }) => ({ dWeights: f32(tokens, topK), dGate: f32(tokens, 1) }),
    call:
      () =>
      ({ weights, gate, dSlotWeights }, { dWeights, dGate }) =>
        void sharedSlotsBackward(weights, dSlotWeights, { sharedExperts: 1, gate, out: { dWeights, dGate } }),
  },
  {
    ...operator("sort"),
    inputs: (draw, { tokens, topK, numExperts }) => ({ ids: draw.routing(tokens, topK, numExperts).ids }),
    outputs: ({ tokens, topK, rows, numExperts }) => ({
      offsets: i32(numExperts + 1),
      tokensPerExpert: i32(numExperts),
      tokenOfRow: i32(rows),
      rowOfSlot: i32(tokens, topK),
    }),
    call:
      ({ numExperts }) =>
      ({ ids }, { offsets, tokensPerExpert, tokenOfRow, rowOfSlot }) =>
        void sort(ids, { numExperts, out: { offsets, tokensPerExpert, tokenOfRow, rowOfSlot } }),
  },
];
