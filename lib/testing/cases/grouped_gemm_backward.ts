import type { FloatDType } from "../../core/tensors/dtype.js";
import { groupedGemmBackward } from "../../operators/experts/grouped_gemm_backward.js";
import { groupedGemmWeightBackward } from "../../operators/experts/grouped_gemm_weight_backward.js";
import { packExperts } from "../../operators/experts/packed_experts.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { isIn, randomIndices } from "../inputs/random_indices.js";
import { unitRoundoff } from "../rounding.js";
import { offsetsOf, randomRows } from "./grouped_gemm.js";

interface Problem {
  /** Rows per expert, or a total to spread at random over some experts. */
  rows: readonly number[] | { total: number; experts: number };
  /** Columns of x. */
  columns: number;
  /** Columns of dy. */
  outputs: number;
  dtypes?: readonly [x: FloatDType, dy: FloatDType];
  bias?: boolean;
  /** Gather the rows from an x with this many rows; some indices are -1. */
  gatherFrom?: number;
  /** Rows of dy after the last expert's. */
  rowsBehind?: number;
  /** Add to values that are there. */
  accumulate?: boolean;
}

export interface BackwardProblem extends Problem {
  weight?: FloatDType;
  /** Pack the weights first. */
  packed?: boolean;
  /** The dtype of dx; default that of x. */
  dxDType?: FloatDType;
}

// For sums over some hundreds of rows, relative to the largest.
const weightTolerances = { dWeight: 1e-5, dBias: 1e-5 };

export function groupedGemmWeightBackwardCase(problem: Problem): Case {
  return {
    name: nameOf(problem, []),
    operator: "groupedGemmWeightBackward",
    devicesOnly: problem.accumulate,
    tolerances: weightTolerances,
    run(inputs) {
      const { x, dy, offsets, options, results } = draw(inputs, problem, true);
      return { ...groupedGemmWeightBackward(x, dy, offsets, { ...options, out: results() }) };
    },
  };
}

export function groupedGemmBackwardCase(problem: BackwardProblem): Case {
  const { columns, outputs, weight = "f32", packed = false, dxDType = problem.dtypes?.[0] ?? "f32" } = problem;
  return {
    name: nameOf(problem, [weight, packed && "packed", problem.dxDType && `to ${dxDType}`]),
    operator: "groupedGemmBackward",
    tolerances: { ...weightTolerances, dx: 1e-5 + unitRoundoff[dxDType] },
    run(inputs) {
      const { x, dy, offsets, options, results } = draw(inputs, problem, false);
      const shape = [(offsets.shape[0] as number) - 1, outputs, columns];
      const plain = inputs.normals(shape, weight, outputs ** -0.5);
      const given = packed ? inputs.keep(packExperts(plain, { transpose: true })) : plain;
      const dx = inputs.empty([dy.shape[0] as number, columns], dxDType);
      return { ...groupedGemmBackward(x, given, offsets, dy, { ...options, out: { dx, ...results() } }) };
    },
  };
}

/** @param skipsRows whether the gradients of rows without a token are not read. */
function draw(inputs: Inputs, problem: Problem, skipsRows: boolean) {
  const { rows, columns, outputs, dtypes: [x, dy] = ["f32", "f32"], bias = false, accumulate = false } = problem;
  const { gatherFrom, rowsBehind = 0 } = problem;
  const { random } = inputs;
  const offsets = offsetsOf("total" in rows ? randomRows(random, rows.total, rows.experts) : rows);
  const experts = offsets.length - 1;
  const total = (offsets.at(-1) as number) + rowsBehind;
  const tokens =
    gatherFrom === undefined
      ? Int32Array.from({ length: total }, (_, row) => row)
      : randomIndices(random, total, gatherFrom);
  const end = total - rowsBehind;
  const source = inputs.readNormals([gatherFrom ?? total, columns], x, isIn(tokens.subarray(0, end)));
  const gradient = inputs.readNormals(
    [total, outputs],
    dy,
    (row) => row < end && ((tokens[row] as number) >= 0 || !skipsRows),
  );
  const target = (...shape: number[]) => (accumulate ? inputs.f32Normals(shape) : inputs.f32Empty(shape));
  return {
    x: source,
    dy: gradient,
    offsets: inputs.integers(offsets, [experts + 1]),
    options: {
      bias,
      accumulate,
      ...(gatherFrom === undefined ? {} : { tokenOfRow: inputs.integers(tokens, [total]) }),
    },
    results: () => ({
      dWeight: target(experts, outputs, columns),
      ...(bias && { dBias: target(experts, outputs) }),
    }),
  };
}

function nameOf(problem: Problem, more: readonly (string | false | undefined)[]): string {
  const { rows, columns, outputs, dtypes = ["f32", "f32"], bias, gatherFrom, rowsBehind, accumulate } = problem;
  const sizes = "total" in rows ? `${rows.total} rows over E${rows.experts}` : `rows [${rows.join(" ")}]`;
  const extras = [
    bias && "with bias",
    gatherFrom !== undefined && `gathered from ${gatherFrom}`,
    rowsBehind && `${rowsBehind} rows behind`,
    accumulate && "accumulated",
    ...more,
  ];
  return [`${sizes} K${columns} N${outputs} ${dtypes.join(" x ")}`, ...extras.filter(Boolean)].join(", ");
}

const dtypes = ["f32", "f16", "bf16"] as const;

const weightProblems: readonly Problem[] = [
  ...dtypes.flatMap((x) =>
    dtypes.map((dy) => ({ rows: [5, 0, 9, 1], columns: 51, outputs: 33, dtypes: [x, dy] as const, bias: true })),
  ),
  { rows: [], columns: 8, outputs: 8, rowsBehind: 3 },
  { rows: [0], columns: 8, outputs: 8, bias: true },
  { rows: [9], columns: 33, outputs: 19, bias: true, gatherFrom: 20, rowsBehind: 2 },
  { rows: [0, 3, 0], columns: 8, outputs: 8, rowsBehind: 2, bias: true, accumulate: true },
  { rows: [1], columns: 1, outputs: 1, bias: true },
  { rows: [4, 2], columns: 0, outputs: 5, bias: true },
  { rows: [4, 2], columns: 5, outputs: 0, bias: true },
  { rows: [0, 45, 0, 0], columns: 33, outputs: 7, rowsBehind: 5, accumulate: true, dtypes: ["bf16", "bf16"] },
  { rows: { total: 200, experts: 8 }, columns: 96, outputs: 80, gatherFrom: 45, bias: true },
  { rows: { total: 33, experts: 300 }, columns: 7, outputs: 5, dtypes: ["bf16", "f32"] },
  { rows: [2, 3], columns: 300, outputs: 470, dtypes: ["bf16", "bf16"], gatherFrom: 7, bias: true, accumulate: true },
  { rows: [530, 1, 257], columns: 40, outputs: 19, dtypes: ["bf16", "bf16"], bias: true },
  { rows: [300, 259], columns: 35, outputs: 20, bias: true, gatherFrom: 100 },
  { rows: [70, 0, 129, 3], columns: 264, outputs: 400, dtypes: ["bf16", "bf16"], gatherFrom: 50, accumulate: true },
  { rows: [33, 64], columns: 136, outputs: 128, dtypes: ["f16", "f16"], gatherFrom: 90, bias: true },
];

const problems: readonly BackwardProblem[] = [
  ...dtypes.map((weight) => ({ rows: [5, 0, 9, 1], columns: 51, outputs: 33, weight, bias: true })),
  { rows: [3, 7], columns: 33, outputs: 45, dtypes: ["bf16", "bf16"], weight: "bf16", packed: true },
  { rows: [0, 0], columns: 8, outputs: 8, rowsBehind: 2, bias: true },
  { rows: [4, 3], columns: 20, outputs: 70, dtypes: ["f16", "f32"], weight: "bf16", gatherFrom: 5, dxDType: "f32" },
  { rows: { total: 40, experts: 60 }, columns: 24, outputs: 17, accumulate: true, packed: true, rowsBehind: 3 },
];

export const groupedGemmBackwardCases: readonly Case[] = [
  ...weightProblems.map(groupedGemmWeightBackwardCase),
  ...problems.map(groupedGemmBackwardCase),
];
