import { type Activation, activations, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { packExperts } from "../../operators/experts/packed_experts.js";
import type { Case } from "../case.js";
import type { Random } from "../inputs/random.js";
import { isIn, randomIndices } from "../inputs/random_indices.js";
import { unitRoundoff } from "../rounding.js";

interface Problem {
  /** Rows per expert, or a total to spread at random over some experts. */
  rows: readonly number[] | { total: number; experts: number };
  /** K, the columns of the weights. */
  columns: number;
  /** Columns of the result: half of the weights' rows if gated. */
  outputs: number;
  activation?: Activation;
  dtypes?: readonly [x: FloatDType, weight: FloatDType];
  bias?: FloatDType;
  outDType?: FloatDType;
  /** Gather the rows from an x with this many rows; some indices are -1. */
  gatherFrom?: number;
  /** Rows of the result after the last expert's. */
  rowsBehind?: number;
  /** Pack the weights first. */
  packed?: boolean;
}

export function groupedGemmCase(problem: Problem): Case {
  const { rows, columns, outputs, activation = "none", dtypes: [x, weight] = ["f32", "f32"], bias } = problem;
  const { outDType = x, gatherFrom, rowsBehind = 0, packed = false } = problem;
  const weightRows = isGated(activation) ? 2 * outputs : outputs;
  const sizes = "total" in rows ? `${rows.total} rows over E${rows.experts}` : `rows [${rows.join(" ")}]`;
  const extras = [
    bias && `bias ${bias}`,
    outDType !== x && `to ${outDType}`,
    gatherFrom && `gathered from ${gatherFrom}`,
    rowsBehind && `${rowsBehind} rows behind`,
    packed && "packed",
  ];
  return {
    name: [`${sizes} K${columns} N${outputs} ${activation} ${x} x ${weight}`, ...extras.filter(Boolean)].join(", "),
    operator: "groupedGemm",
    tolerances: { y: 1e-5 + unitRoundoff[outDType] },
    run(inputs) {
      const { random } = inputs;
      const offsets = offsetsOf("total" in rows ? randomRows(random, rows.total, rows.experts) : rows);
      const experts = offsets.length - 1;
      const end = offsets.at(-1) as number;
      const total = end + rowsBehind;
      const tokenOfRow = gatherFrom === undefined ? undefined : randomIndices(random, total, gatherFrom);
      const isRead = tokenOfRow ? isIn(tokenOfRow.subarray(0, end)) : (row: number) => row < end;
      const source = inputs.readNormals([gatherFrom ?? total, columns], x, isRead);
      const plain = inputs.normals([experts, weightRows, columns], weight, columns ** -0.5);
      const y = groupedGemm(
        source,
        packed ? inputs.keep(packExperts(plain, { activation })) : plain,
        inputs.integers(offsets, [experts + 1]),
        {
          activation,
          out: inputs.empty([total, outputs], outDType),
          ...(bias ? { bias: inputs.normals([experts, weightRows], bias) } : {}),
          ...(tokenOfRow && { tokenOfRow: inputs.integers(tokenOfRow, [total]) }),
        },
      );
      return { y };
    },
  };
}

/** The offsets of experts with these numbers of rows. */
export function offsetsOf(rows: readonly number[]): Int32Array {
  const offsets = new Int32Array(rows.length + 1);
  rows.forEach((count, expert) => {
    offsets[expert + 1] = (offsets[expert] as number) + count;
  });
  return offsets;
}

/** Rows of experts, spread at random. */
export function randomRows(random: Random, total: number, experts: number): number[] {
  const rows = new Array<number>(experts).fill(0);
  for (let row = 0; row < total; row++) (rows[random.integer(0, experts - 1)] as number)++;
  return rows;
}

const dtypes = ["f32", "f16", "bf16"] as const;

export const groupedGemmCases: readonly Case[] = [
  ...dtypes.flatMap((x) =>
    dtypes.map((weight) =>
      groupedGemmCase({ rows: [5, 0, 9, 1], columns: 51, outputs: 33, dtypes: [x, weight], activation: "swiglu" }),
    ),
  ),
  ...activations.flatMap((activation) => [
    groupedGemmCase({ rows: [3, 7], columns: 33, outputs: 45, activation }),
    groupedGemmCase({ rows: [4, 3], columns: 64, outputs: 16, activation, dtypes: ["bf16", "bf16"], bias: "bf16" }),
    groupedGemmCase({ rows: [2, 6], columns: 7, outputs: 19, activation, bias: "f32", gatherFrom: 5, packed: true }),
  ]),
  ...(
    [
      { rows: [], columns: 8, outputs: 8, rowsBehind: 3 },
      { rows: [0], columns: 8, outputs: 8 },
      { rows: [0, 0, 0], columns: 8, outputs: 8, rowsBehind: 2, bias: "f32" },
      { rows: [1], columns: 1, outputs: 1 },
      { rows: [0, 45, 0, 0], columns: 33, outputs: 7, rowsBehind: 5 },
      { rows: [9], columns: 33, outputs: 19, activation: "swiglu", bias: "f32" },
      { rows: [21], columns: 64, outputs: 48, dtypes: ["bf16", "bf16"], bias: "bf16", packed: true },
      { rows: [3, 5], columns: 65, outputs: 33, gatherFrom: 30, rowsBehind: 4 },
      { rows: [2, 7], columns: 128, outputs: 64, dtypes: ["bf16", "bf16"], gatherFrom: 40, packed: true },
      { rows: [1, 0, 1], columns: 2880, outputs: 45, dtypes: ["bf16", "bf16"], packed: true },
      { rows: [2, 1], columns: 45, outputs: 1440, activation: "swiglu", dtypes: ["bf16", "bf16"], packed: true },
      { rows: [1, 2], columns: 1856, outputs: 33, activation: "relu", dtypes: ["f16", "f16"] },
      { rows: [2, 3], columns: 704, outputs: 51, activation: "geglu_tanh", dtypes: ["f32", "bf16"] },
      { rows: { total: 200, experts: 8 }, columns: 96, outputs: 80, gatherFrom: 45, packed: true },
      { rows: { total: 40, experts: 160 }, columns: 24, outputs: 17, activation: "swiglu", rowsBehind: 3 },
      { rows: { total: 33, experts: 1100 }, columns: 7, outputs: 5, dtypes: ["bf16", "f32"] },
      { rows: [130, 1, 70], columns: 65, outputs: 129, activation: "silu", dtypes: ["bf16", "bf16"], outDType: "f32" },
      { rows: [17, 16], columns: 64, outputs: 64, dtypes: ["f32", "f32"], outDType: "bf16" },
      { rows: [15, 31], columns: 63, outputs: 65, dtypes: ["f16", "bf16"], outDType: "f32", bias: "f16" },
    ] satisfies Problem[]
  ).map(groupedGemmCase),
];
