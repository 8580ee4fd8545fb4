import type { StageName } from "../../../core/layer/stages.js";
import { combine } from "./combine.js";
import { down } from "./down.js";
import { gateUp } from "./gate_up.js";
import { gating } from "./gating.js";
import { router } from "./router.js";
import { sharedGate } from "./shared_gate.js";
import { sort } from "./sort.js";
import type { Stage } from "./stage.js";

/** Every stage by name. */
export const stages: { readonly [Name in StageName]: Stage } & { [extension: string]: Stage } = {
  router,
  sharedGate,
  gating,
  sort,
  gateUp,
  down,
  combine,
};
