import { routerProjection } from "../../routing/router_projection.js";
import type { Stage } from "./stage.js";

/** The router's logits. */
export const router: Stage = (state, { weights: { router } }) => {
  state.set("logits", routerProjection(state.get("x"), router.weight, router.bias));
};
