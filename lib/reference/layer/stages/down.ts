import { rowOf } from "../../core/matrix.js";
import { groupedGemm } from "../../experts/grouped_gemm.js";
import { softmax } from "../../routing/scores.js";
import type { Stage } from "./stage.js";

/** The second product of every row, and the activation of the output. */
export const down: Stage = (state, { description, weights: { down } }) => {
  const outputs = groupedGemm(
    state.get("inner"),
    down.weight,
    down.bias?.matrix(),
    state.get("rows").offsets,
    undefined,
  );
  if (description.outputActivation === "softmax") {
    for (let row = 0; row < outputs.rows; row++) rowOf(outputs, row).set(softmax(rowOf(outputs, row)));
  }
  state.set("outputs", outputs);
};
