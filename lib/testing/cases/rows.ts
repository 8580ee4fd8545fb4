import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { combine } from "../../operators/experts/combine.js";
import { combineBackward } from "../../operators/experts/combine_backward.js";
import { permute, unpermute } from "../../operators/experts/permute.js";
import { permuteBackward } from "../../operators/experts/permute_backward.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import type { Random } from "../inputs/random.js";
import { isIn, randomIndices } from "../inputs/random_indices.js";
import { unitRoundoff } from "../rounding.js";

export function permuteCase(tokens: number, rows: number, hidden: number, dtype: FloatDType): Case {
  return {
    name: `T${tokens} R${rows} H${hidden} ${dtype}`,
    operator: "permute",
    tolerances: {},
    run(inputs) {
      const tokenOfRow = randomIndices(inputs.random, rows, tokens);
      const x = inputs.readNormals([tokens, hidden], dtype, isIn(tokenOfRow));
      return { rows: permute(x, inputs.integers(tokenOfRow, [rows])) };
    },
  };
}

interface SlotProblem {
  tokens: number;
  topK: number;
  rows: number;
  hidden: number;
}

export function unpermuteCase({ tokens, topK, rows, hidden }: SlotProblem, dtype: FloatDType): Case {
  return {
    name: `T${tokens} k${topK} R${rows} H${hidden} ${dtype}`,
    operator: "unpermute",
    tolerances: {},
    run(inputs) {
      const rowOfSlot = randomIndices(inputs.random, tokens * topK, rows);
      const source = inputs.readNormals([rows, hidden], dtype, isIn(rowOfSlot));
      return { slots: unpermute(source, inputs.integers(rowOfSlot, [tokens, topK])) };
    },
  };
}

/** Rows, the rows of slots, and the slots' weights. What no slot reads is NaN: other rows, and the weights of -1. */
function slotInputs(
  inputs: Inputs,
  { tokens, topK, rows, hidden }: SlotProblem,
  dtype: FloatDType,
  draw: (random: Random, slots: number, rows: number) => Int32Array,
) {
  const rowOfSlot = draw(inputs.random, tokens * topK, rows);
  const weights = inputs.readNormals([tokens * topK], "f32", (slot) => (rowOfSlot[slot] as number) >= 0);
  return {
    source: inputs.readNormals([rows, hidden], dtype, isIn(rowOfSlot)),
    rowOfSlot: inputs.integers(rowOfSlot, [tokens, topK]),
    weights: inputs.keep(weights.reshape([tokens, topK])) as Tensor<"f32">,
  };
}

export function combineCase(problem: SlotProblem, dtype: FloatDType, outDType = dtype, residual?: FloatDType): Case {
  const { tokens, topK, rows, hidden } = problem;
  return {
    name: `T${tokens} k${topK} R${rows} H${hidden} ${dtype} to ${outDType}${residual ? `, residual ${residual}` : ""}`,
    operator: "combine",
    tolerances: { y: 1e-6 + unitRoundoff[outDType] },
    // Few sums may all nearly cancel.
    magnitudes: { y: 1 },
    run(inputs) {
      const { source, rowOfSlot, weights } = slotInputs(inputs, problem, dtype, randomIndices);
      const out = inputs.empty([tokens, hidden], outDType);
      const added = residual && { residual: inputs.normals([tokens, hidden], residual) };
      return { y: combine(source, rowOfSlot, weights, { ...added, out }) };
    },
  };
}

/** The rows of slots in a random order, each at most once; some slots have none, and some rows no slot. */
function differentRows(random: Random, slots: number, rows: number): Int32Array {
  const places = random.sample(Math.min(slots, rows), slots);
  const order = random.sample(rows, rows);
  const rowOfSlot = new Int32Array(slots).fill(-1);
  places.forEach((slot, i) => {
    if (random.uniform() > 0.1) rowOfSlot[slot] = order[i] as number;
  });
  return rowOfSlot;
}

type Wanted = "dRows" | "dWeights" | "both";

export function combineBackwardCase(
  problem: SlotProblem,
  [dtype, dyDType, outDType]: readonly [rows: FloatDType, dy: FloatDType, out: FloatDType],
  want: Wanted = "both",
): Case {
  const { tokens, topK, rows, hidden } = problem;
  return {
    name: `T${tokens} k${topK} R${rows} H${hidden} ${dtype}, ${dyDType} to ${outDType}, ${want}`,
    operator: "combineBackward",
    tolerances: { dRows: 1e-6 + unitRoundoff[outDType], dWeights: 1e-5 },
    magnitudes: { dWeights: 1 },
    run(inputs) {
      const { source, rowOfSlot, weights } = slotInputs(inputs, problem, dtype, differentRows);
      const dy = inputs.normals([tokens, hidden], dyDType, hidden ** -0.5);
      const out = { dRows: inputs.empty([rows, hidden], outDType) };
      if (want === "dWeights") return combineBackward(source, rowOfSlot, weights, dy, { want });
      if (want === "dRows") return combineBackward(null, rowOfSlot, weights, dy, { want, out });
      const both = { ...out, dWeights: inputs.f32Empty([tokens, topK]) };
      return { ...combineBackward(source, rowOfSlot, weights, dy, { out: both }) };
    },
  };
}

export function permuteBackwardCase({ tokens, topK, rows, hidden }: SlotProblem, dtype: FloatDType): Case {
  return {
    name: `T${tokens} k${topK} R${rows} H${hidden} ${dtype}`,
    operator: "permuteBackward",
    tolerances: { dx: 1e-6 + unitRoundoff[dtype] },
    // Few sums may all nearly cancel.
    magnitudes: { dx: 1 },
    run(inputs) {
      const dRows = inputs.normals([rows, hidden], dtype);
      const rowOfSlot = inputs.integers(differentRows(inputs.random, tokens * topK, rows), [tokens, topK]);
      return { dx: permuteBackward(dRows, rowOfSlot) };
    },
  };
}

const slotProblems: readonly SlotProblem[] = [
  { tokens: 0, topK: 2, rows: 0, hidden: 8 },
  { tokens: 3, topK: 2, rows: 0, hidden: 7 },
  { tokens: 1, topK: 1, rows: 1, hidden: 1 },
  { tokens: 33, topK: 2, rows: 66, hidden: 51 },
  { tokens: 7, topK: 8, rows: 56, hidden: 2880 },
  { tokens: 45, topK: 4, rows: 33, hidden: 128 },
  { tokens: 13, topK: 22, rows: 286, hidden: 45 },
];

const dtypes = ["f32", "f16", "bf16"] as const;

export const permuteCases: readonly Case[] = dtypes.flatMap((dtype) => [
  permuteCase(0, 0, 16, dtype),
  permuteCase(0, 5, 16, dtype),
  permuteCase(1, 1, 1, dtype),
  permuteCase(7, 33, 51, dtype),
  permuteCase(45, 90, 2880, dtype),
  permuteCase(300, 7, 64, dtype),
]);

export const unpermuteCases: readonly Case[] = dtypes.flatMap((dtype) =>
  slotProblems.map((problem) => unpermuteCase(problem, dtype)),
);

export const combineCases: readonly Case[] = [
  ...dtypes.flatMap((dtype) => slotProblems.map((problem) => combineCase(problem, dtype))),
  ...dtypes.flatMap((dtype) =>
    dtypes
      .filter((outDType) => outDType !== dtype)
      .map((outDType) => combineCase({ tokens: 9, topK: 6, rows: 50, hidden: 33 }, dtype, outDType)),
  ),
  ...dtypes.flatMap((residual) => [
    combineCase({ tokens: 9, topK: 6, rows: 50, hidden: 33 }, "f32", residual, residual),
    combineCase({ tokens: 21, topK: 3, rows: 40, hidden: 256 }, residual, "f32", "bf16"),
    combineCase({ tokens: 5, topK: 0, rows: 4, hidden: 16 }, residual, residual, residual),
  ]),
];

export const combineBackwardCases: readonly Case[] = [
  ...slotProblems.flatMap((problem) => dtypes.map((dtype) => combineBackwardCase(problem, [dtype, dtype, dtype]))),
  ...(["dRows", "dWeights"] as const).flatMap((want) =>
    dtypes.map((dtype) =>
      combineBackwardCase({ tokens: 19, topK: 4, rows: 80, hidden: 301 }, [dtype, "bf16", "f32"], want),
    ),
  ),
];

export const permuteBackwardCases: readonly Case[] = dtypes.flatMap((dtype) =>
  slotProblems.map((problem) => permuteBackwardCase(problem, dtype)),
);
