import { expertSlots } from "../../operators/routing/expert_slots.js";
import { limitCapacity } from "../../operators/routing/limit_capacity.js";
import { limitCapacityBackward } from "../../operators/routing/limit_capacity_backward.js";
import { type Draw, integers } from "./draw.js";
import { f32, i32, type OperatorCase, type Sizes } from "./operator_case.js";

/** C: a quarter more than an even share of the choices. */
const capacityOf = ({ rows, numExperts }: Sizes): number => Math.max(1, Math.ceil((1.25 * rows) / numExperts));

/** A routing, and its ids after some were dropped. */
function limited(draw: Draw, { tokens, topK, numExperts }: Sizes) {
  const routing = draw.routing(tokens, topK, numExperts);
  const kept = Int32Array.from(routing.ids.data, (id) => (draw.random.uniform() < 0.1 ? -1 : id));
  return { ...routing, keptIds: integers(kept, routing.ids.shape) };
}

export const capacityCases: readonly OperatorCase[] = [
  {
    operator: "limitCapacity",
    name: "limitCapacity",
    inputs: (draw, sizes) => ({
      ...draw.routing(sizes.tokens, sizes.topK, sizes.numExperts),
      numExperts: sizes.numExperts,
      capacity: capacityOf(sizes),
      sequenceLength: Math.max(1, sizes.tokens),
      drop: "position",
      divisor: "none",
      scale: 1,
    }),
    outputs: ({ tokens, topK }) => ({ keptIds: i32(tokens, topK), keptWeights: f32(tokens, topK) }),
    call: (sizes) => {
      const options = { numExperts: sizes.numExperts, tokens: capacityOf(sizes) };
      return ({ ids, weights }, { keptIds, keptWeights }) =>
        void limitCapacity({ ids, weights }, { ...options, out: { ids: keptIds, weights: keptWeights } });
    },
  },
  {
    operator: "limitCapacityBackward",
    name: "limitCapacityBackward",
    inputs: (draw, sizes) => ({
      ...limited(draw, sizes),
      dKeptWeights: draw.normals([sizes.tokens, sizes.topK]),
      divisor: "kept",
      scale: 1,
    }),
    outputs: ({ tokens, topK }) => ({ dWeights: f32(tokens, topK) }),
    call:
      () =>
      ({ ids, weights, keptIds, dKeptWeights }, { dWeights }) =>
        void limitCapacityBackward({ ids, weights }, { ids: keptIds }, dKeptWeights, {
          renormalize: true,
          out: dWeights,
        }),
  },
  {
    operator: "expertSlots",
    name: "expertSlots",
    inputs: (draw, { tokens, topK, numExperts }) => ({ ids: draw.routing(tokens, topK, numExperts).ids }),
    outputs: (sizes) => ({ slots: i32(sizes.numExperts, capacityOf(sizes)) }),
    call: (sizes) => {
      const options = { numExperts: sizes.numExperts, capacity: capacityOf(sizes) };
      return ({ ids }, { slots }) => void expertSlots(ids, { ...options, out: slots });
    },
  },
];
