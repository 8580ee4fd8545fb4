import type { Gating } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { fixedWeights, gateGradient } from "./gating_backward.js";

/** One of a token's groups: its choices within it, and the gradients of their weights. */
interface Chosen {
  readonly group: number;
  readonly experts: number[];
  readonly gradients: number[];
}

/** The gradients of both gates' logits; see lib/operators/routing/hierarchical_gating_backward.ts. */
export function hierarchicalGatingBackward(
  groupLogits: Matrix,
  logits: Matrix,
  ids: Int32Array,
  dWeights: Matrix,
  groups: Gating,
  experts: Gating,
): { dGroupLogits: Matrix; dLogits: Matrix } {
  const dGroupLogits = zeros(groupLogits.rows, groupLogits.columns);
  const dLogits = zeros(logits.rows, logits.columns);
  const size = logits.columns / groupLogits.columns;
  const part = (matrix: Matrix, token: number, group: number) =>
    rowOf(matrix, token).subarray(group * size, (group + 1) * size);
  for (let token = 0; token < logits.rows; token++) {
    const chosen = choicesOf(token, ids, dWeights, experts.topK, size);
    const weights = chosen.map((each) => fixedWeights(part(logits, token, each.group), each.experts, experts));
    const chosenGroups = chosen.map(({ group }) => group);
    const groupRow = rowOf(groupLogits, token);
    const groupWeights = fixedWeights(groupRow, chosenGroups, groups);
    // A weight is the product of its group's weight and its own within the group.
    const dGroupWeights = Float64Array.from(chosen, ({ gradients }, j) =>
      gradients.reduce((sum, value, i) => sum + value * (weights[j]?.[i] as number), 0),
    );
    const choices = { experts: chosenGroups, dWeights: dGroupWeights };
    rowOf(dGroupLogits, token).set(gateGradient(groupRow, choices, groups));
    chosen.forEach((each, j) => {
      const own = {
        experts: each.experts,
        dWeights: Float64Array.from(each.gradients, (value) => value * (groupWeights[j] as number)),
      };
      const sums = part(dLogits, token, each.group);
      sums.set(
        gateGradient(part(logits, token, each.group), own, experts).map((value, e) => value + (sums[e] as number)),
      );
    });
  }
  return { dGroupLogits, dLogits };
}

/** A token's choices by group; every k2 slots are of one group, that of their first expert. */
function choicesOf(token: number, ids: Int32Array, dWeights: Matrix, each: number, size: number): Chosen[] {
  const gradients = rowOf(dWeights, token);
  const own = ids.subarray(token * gradients.length, (token + 1) * gradients.length);
  const chosen: Chosen[] = [];
  for (let first = 0; first < own.length; first += each) {
    const slots = [...own.subarray(first, first + each).keys()].map((i) => first + i);
    const leading = slots.find((slot) => (own[slot] as number) >= 0);
    if (leading === undefined) continue;
    const group = Math.floor((own[leading] as number) / size);
    const within = slots.filter((slot) => Math.floor((own[slot] as number) / size) === group);
    chosen.push({
      group,
      experts: within.map((slot) => (own[slot] as number) % size),
      gradients: within.map((slot) => gradients[slot] as number),
    });
  }
  return chosen;
}

export const runHierarchicalGatingBackward: Implementation<"hierarchicalGatingBackward"> = (operands, stream) => {
  const { groupLogits, logits, ids, dWeights, dGroupLogits, dLogits, groups, experts } = operands;
  const name = "hierarchicalGatingBackward: routing.ids";
  const chosen = stream.checkIndices(name, ids, "an expert", logits.shape[1] as number);
  const given = [groupLogits.matrix(), logits.matrix(), chosen, dWeights.matrix()] as const;
  const result = hierarchicalGatingBackward(...given, groups, experts);
  dGroupLogits.store(result.dGroupLogits.values);
  dLogits.store(result.dLogits.values);
};
