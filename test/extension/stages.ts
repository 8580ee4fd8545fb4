import { forwardStages, type StageList } from "../../lib/core/layer/stages.js";
import { stages } from "../../lib/reference/layer/stages/list.js";

// Stages of the tests, added to lib/reference/layer/stages from outside.

/** y = -y, after a whole forward. */
stages.testNegate = (state) => {
  const y = state.get("y");
  state.set("y", { ...y, values: y.values.map((value) => -value) });
};

export const negatedForward: StageList = [...forwardStages, "testNegate"];
