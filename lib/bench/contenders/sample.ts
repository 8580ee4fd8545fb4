import type { OperatorName } from "../../core/operators/table.js";
import { openDevice } from "../../devices.js";
import { mapArrays } from "../../testing/subject/arrays.js";
import { computeOperator } from "../../testing/subject/device_subject.js";
import type { OutputArray, SubjectInputs, TestArray } from "../../testing/subject/subject.js";
import type { BenchedOperator } from "../bench_case.js";
import { layerSample } from "./layer_sample.js";
import { pickRows, rowsOf, type Sample, spread } from "./rows.js";

// `reference` is plain loops. Of the products of large layers it computes a sample, which is compared in place of the whole.

/** Multiply-adds and more that `reference` does in a second or two. */
const mostOperations = 2e8;
/** Rows come from this many experts at most, those at both ends among them. */
const mostExperts = 4;

/** Part of a problem of an operator. */
interface Part extends Pick<Sample, "pick" | "text"> {
  readonly inputs: SubjectInputs;
}

const parts: Partial<Record<OperatorName, (inputs: SubjectInputs, most: number) => Part | undefined>> = {
  groupedGemm: someRows,
  groupedGemmWeightBackward: someColumns,
  routerProjection: someTokens,
};

/**
 * Computes a problem, or as much of it as does not take minutes.
 * @param most operations; default what takes a few seconds.
 */
export async function sampleOf(operator: BenchedOperator, inputs: SubjectInputs, most?: number): Promise<Sample> {
  if (operator === "layer") return layerSample(inputs, most);
  const whole: Part = { inputs, pick: (_output, values) => values, text: "" };
  const { inputs: some, pick, text } = parts[operator]?.(inputs, most ?? mostOperations) ?? whole;
  using reference = openDevice("reference", { poison: true });
  return { values: await computeOperator(reference, operator, some, true), pick, text };
}

/** Some tokens' part of a router's logits. */
function someTokens(inputs: SubjectInputs, most: number): Part | undefined {
  const [tokens, hidden] = inputs.x.shape as [number, number];
  const [experts] = inputs.weight.shape as [number];
  const wanted = spread(tokens, Math.floor(most / (2 * hidden * experts)));
  if (wanted.length === tokens) return undefined;
  return {
    inputs: {
      ...inputs,
      x: rowsOf(inputs.x, wanted),
      outputs: { logits: resized(inputs.outputs.logits, wanted.length) },
    },
    pick: (_output, values) => pickRows(values, wanted, experts),
    text: `${wanted.length} of ${tokens} tokens`,
  };
}

/** Some rows of some experts of a product. */
function someRows(inputs: SubjectInputs, most: number): Part | undefined {
  const [experts, outputs, columns] = inputs.weight.shape as [number, number, number];
  const { data: offsets } = inputs.offsets as TestArray;
  const all = offsets[experts] as number;
  if (2 * all * outputs * columns <= most) return undefined;
  const chosen = someExperts(offsets, experts);
  const perExpert = Math.floor(most / (2 * outputs * columns * chosen.length));
  const rows = chosen.map((expert) => {
    const [first, end] = [offsets[expert] as number, offsets[expert + 1] as number];
    return spread(end - first, perExpert).map((row) => first + row);
  });
  const wanted = rows.flat();
  const tokenOfRow = inputs.tokenOfRow as TestArray | undefined;
  const sources = tokenOfRow ? wanted.map((row) => tokenOfRow.data[row] as number) : wanted;
  const { tokenOfRow: _gathered, ...others } = inputs;
  const y = inputs.outputs.y as OutputArray;
  return {
    inputs: {
      ...others,
      x: rowsOf(inputs.x, sources),
      weight: expertsOf(inputs.weight, chosen),
      offsets: ends(rows.map(({ length }) => length)),
      outputs: { y: resized(y, wanted.length) },
    },
    pick: (_output, values) => pickRows(values, wanted, y.shape[1] as number),
    text: `${wanted.length} of ${all} rows`,
  };
}

/** Some rows N of some experts of the gradients of weights, which are columns of dy. */
function someColumns(inputs: SubjectInputs, most: number): Part | undefined {
  const { data: offsets } = inputs.offsets as TestArray;
  const { shape } = inputs.outputs.dWeight as OutputArray;
  const [experts, outputs, columns] = shape as [number, number, number];
  if (2 * (offsets[experts] as number) * outputs * columns <= most) return undefined;
  const chosen = someExperts(offsets, experts);
  const rows = chosen.map((expert) =>
    spread((offsets[expert + 1] as number) - (offsets[expert] as number), Number.POSITIVE_INFINITY).map(
      (row) => (offsets[expert] as number) + row,
    ),
  );
  const all = rows.flat();
  const wanted = spread(outputs, Math.floor(most / (2 * all.length * columns)));
  const dy = rowsOf(inputs.dy, all);
  const places = all.flatMap((_, row) => wanted.map((column) => row * outputs + column));
  const matrixRows = chosen.flatMap((expert) => wanted.map((row) => expert * outputs + row));
  return {
    inputs: {
      ...inputs,
      x: rowsOf(inputs.x, all),
      dy: { ...dy, data: pickRows(dy.data, places, 1) as TestArray["data"], shape: [all.length, wanted.length] },
      offsets: ends(rows.map(({ length }) => length)),
      outputs: { dWeight: { dtype: "f32", shape: [chosen.length, wanted.length, columns] } },
    },
    pick: (_output, values) => pickRows(values, matrixRows, columns),
    text: `${matrixRows.length} of ${experts * outputs} rows`,
  };
}

/** The experts that rows are taken from: of those that have rows, the first, the last and some between. */
function someExperts(offsets: ArrayLike<number>, experts: number): readonly number[] {
  const active = Array.from({ length: experts }, (_, expert) => expert).filter(
    (expert) => (offsets[expert + 1] as number) > (offsets[expert] as number),
  );
  return spread(active.length, mostExperts).map((index) => active[index] as number);
}

/** The weights of some experts, plain or quantised. */
function expertsOf(weight: SubjectInputs, experts: readonly number[]): SubjectInputs {
  const [, ...matrix] = weight.shape as number[];
  return { ...mapArrays(weight, (array) => rowsOf(array, experts)), shape: [experts.length, ...matrix] };
}

function resized({ shape, dtype }: OutputArray, rows: number): OutputArray {
  return { shape: [rows, ...shape.slice(1)], dtype };
}

function ends(counts: readonly number[]): TestArray {
  const data = new Int32Array(counts.length + 1);
  counts.forEach((count, index) => {
    data[index + 1] = (data[index] as number) + count;
  });
  return { data, shape: [data.length], dtype: "i32" };
}
