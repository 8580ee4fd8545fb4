import { combine as addUp } from "../../experts/combine.js";
import type { Stage } from "./stage.js";

/** y[t] = Σⱼ weights[t, j] · outputs[rowOfSlot[t, j]]; all weights are 1 if they were applied to the input. */
export const combine: Stage = (state, { description }) => {
  const { weights } = state.get("slots");
  const factors = description.weightOn === "input" ? { ...weights, values: weights.values.map(() => 1) } : weights;
  state.set("y", addUp(state.get("outputs"), state.get("rows").rowOfSlot, factors));
};
