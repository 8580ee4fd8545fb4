import type { OperatorName } from "../../core/operators/table.js";
import type { OutputArray, SubjectInputs, TestArray } from "../../testing/subject/subject.js";

// `reference` is plain loops. Of the products of large layers it computes a sample, which is compared in place of the whole.

/** Multiply-adds and more that `reference` does in a second or two. */
const mostOperations = 2e8;
/** Rows come from this many experts at most, those at both ends among them. */
const mostExperts = 4;

/** Part of a problem. */
export interface Sample {
  /** What `reference` computes. */
  readonly inputs: SubjectInputs;
  /** The values of a whole output that belong to the part, in the part's order. */
  pick(output: string, values: ArrayLike<number>): ArrayLike<number>;
  /** What is compared, in words; empty if it is everything. */
  readonly text: string;
}

/** What to compute of a problem so that it does not take minutes. */
export function sampleOf(operator: OperatorName, inputs: SubjectInputs, most = mostOperations): Sample {
  const sample =
    operator === "groupedGemm"
      ? someRows(inputs, most)
      : operator === "groupedGemmWeightBackward"
        ? someColumns(inputs, most)
        : operator === "routerProjection"
          ? someTokens(inputs, most)
          : undefined;
  return sample ?? { inputs, pick: (_output, values) => values, text: "" };
}

/** Of a router's logits, those of some tokens. */
function someTokens(inputs: SubjectInputs, most: number): Sample | undefined {
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

/** Of a product, some rows of some experts. */
function someRows(inputs: SubjectInputs, most: number): Sample | undefined {
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
      weight: rowsOf(inputs.weight, chosen),
      offsets: ends(rows.map(({ length }) => length)),
      outputs: { y: resized(y, wanted.length) },
    },
    pick: (_output, values) => pickRows(values, wanted, y.shape[1] as number),
    text: `${wanted.length} of ${all} rows`,
  };
}

/** Of the gradients of weights, some rows N of some experts, which are columns of dy. */
function someColumns(inputs: SubjectInputs, most: number): Sample | undefined {
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

/** At most so many of 0 .. length-1, at least one, evenly spaced with both ends. */
function spread(length: number, most: number): number[] {
  const count = Math.min(length, Math.max(1, most));
  return Array.from({ length: count }, (_, index) =>
    count === 1 ? length - 1 : Math.round((index * (length - 1)) / (count - 1)),
  );
}

/** Entries along the first dimension. */
function rowsOf(array: TestArray, rows: readonly number[]): TestArray {
  const [, ...rest] = array.shape as [number, ...number[]];
  const width = rest.reduce((product, size) => product * size, 1);
  return { ...array, data: pickRows(array.data, rows, width) as TestArray["data"], shape: [rows.length, ...rest] };
}

function pickRows(values: ArrayLike<number>, rows: readonly number[], width: number): ArrayLike<number> {
  const Picked = (ArrayBuffer.isView(values) ? values.constructor : Float64Array) as Float64ArrayConstructor;
  const picked = new Picked(rows.length * width);
  rows.forEach((row, index) => {
    for (let column = 0; column < width; column++) {
      picked[index * width + column] = values[row * width + column] as number;
    }
  });
  return picked;
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
