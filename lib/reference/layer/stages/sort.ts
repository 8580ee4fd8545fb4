import { sharedSlots } from "../../routing/shared_slots.js";
import { sort as sortByExpert } from "../../routing/sort.js";
import type { Stage } from "./stage.js";

/** Sorts every token's slots by expert; slots of experts outside the bank have no row. */
export const sort: Stage = (state, { description }) => {
  const gate = state.has("sharedGate") ? state.get("sharedGate") : undefined;
  const slots = sharedSlots(state.get("chosen"), gate, description);
  const experts = description.bank.count + description.sharedExperts;
  state.set("slots", slots);
  state.set("rows", sortByExpert(slots.ids, slots.weights.columns, experts));
};
