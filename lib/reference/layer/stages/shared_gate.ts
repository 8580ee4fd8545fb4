import { routerProjection } from "../../routing/router_projection.js";
import type { Stage } from "./stage.js";

/** The output of the shared experts' gate, if they have one. */
export const sharedGate: Stage = (state, { weights: { sharedGate } }) => {
  if (sharedGate) state.set("sharedGate", routerProjection(state.get("x"), sharedGate.weight, sharedGate.bias));
};
