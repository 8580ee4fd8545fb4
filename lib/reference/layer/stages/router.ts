import { routerProjection } from "../../routing/router_projection.js";
import type { Stage } from "./stage.js";

/** The router's logits, unless the routing is given, and the output of the shared experts' gate. */
export const router: Stage = (state, { weights: { router, sharedGate } }) => {
  const x = state.get("x");
  if (!state.has("chosen")) state.set("logits", routerProjection(x, router.weight, router.bias));
  if (sharedGate) state.set("sharedGate", routerProjection(x, sharedGate.weight, sharedGate.bias));
};
