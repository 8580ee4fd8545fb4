import { gating as chooseExperts } from "../../routing/gating.js";
import type { Stage } from "./stage.js";

/** Chooses the experts of every token by its logits. */
export const gating: Stage = (state, { description, weights, stream }) => {
  const {
    ids,
    weights: chosenWeights,
    nonFiniteRows,
  } = chooseExperts(state.get("logits"), description, weights.selectionBias);
  stream.nonFiniteLogitRows += nonFiniteRows;
  state.set("chosen", { ids, weights: chosenWeights });
};
