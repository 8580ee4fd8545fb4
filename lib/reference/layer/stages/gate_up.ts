import { type Matrix, rowOf, zeros } from "../../core/matrix.js";
import { activate } from "../../experts/activation.js";
import { groupedGemm } from "../../experts/grouped_gemm.js";
import { gather } from "../../experts/permute.js";
import type { ExpertProjection } from "../stored_weights.js";
import type { Stage } from "./stage.js";

/** activation(gate · x, up · x) * (multiplier · x) for every row; with `weightOn: "input"`, of x times its weight. */
export const gateUp: Stage = (state, { description, weights: { gate, up, multiplier } }) => {
  const { offsets, tokenOfRow, rowOfSlot } = state.get("rows");
  const rows = gather(state.get("x"), tokenOfRow);
  const weights = description.weightOn === "input" ? weightsOfRows(rowOfSlot, state.get("slots").weights) : undefined;
  const product = ({ weight, bias }: ExpertProjection) =>
    groupedGemm(rows, weight, bias?.matrix(), offsets, undefined, weights);
  const products = [...(gate ? [product(gate)] : []), product(up)];
  const factors = multiplier && product(multiplier);
  const width = up.weight.rows;
  const pre = zeros(rows.rows, products.length * width);
  const inner = zeros(rows.rows, width);
  const { activation, clamp, sharedClamp, bank } = description;
  const firstShared = offsets[bank.count] as number;
  for (let row = 0; row < rows.rows; row++) {
    products.forEach((values, index) => {
      rowOf(pre, row).set(rowOf(values, row), index * width);
    });
    rowOf(inner, row).set(activate(activation, row < firstShared ? clamp : sharedClamp, rowOf(pre, row)));
  }
  state.set("pre", pre);
  if (factors) {
    state.set("multiplied", factors);
    multiply(inner, factors);
  }
  state.set("inner", inner);
};

/** For every row the weight of its slot. */
function weightsOfRows(rowOfSlot: Int32Array, weights: Matrix): Float64Array {
  const ofRows = new Float64Array(rowOfSlot.length);
  rowOfSlot.forEach((row, slot) => {
    if (row >= 0) ofRows[row] = weights.values[slot] as number;
  });
  return ofRows;
}

function multiply(target: Matrix, factors: Matrix): void {
  target.values.forEach((value, index) => {
    target.values[index] = value * (factors.values[index] as number);
  });
}
