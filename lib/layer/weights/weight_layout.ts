import { cannotCombine, invalidArgument } from "../../core/errors.js";
import { plainWeight, type WeightMatrix } from "../../core/formats/weight_format.js";
import { isArray } from "../../core/input/foreign.js";
import { choice, type Fields, object, optional, type Reader, unchecked } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, sameShape, shapeSize } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import { checkTensor } from "../../operators/check.js";
import { type Part, parts } from "../../operators/experts/quantized_weight.js";

/** `out_in`: rows are outputs (y = W x), as in PyTorch's linear layers. `in_out`: columns are outputs (y = x W). */
export type Orient = "out_in" | "in_out";
export const orients: readonly Orient[] = ["out_in", "in_out"];

/**
 * How a tensor holds the matrices of all experts: with the expert as an additional first dimension (`dim0`), or
 * concatenated along the first dimension (`rows`).
 */
export type Stacking = "dim0" | "rows";
export const stackings: readonly Stacking[] = ["dim0", "rows"];

/** How a tensor holds a matrix, or a bias (which has outputs but no inputs). */
export interface WeightLayout {
  /** Default out_in. */
  orient?: Orient | undefined;
  /** Default: all outputs of the tensor belong to this matrix. */
  part?: Part | undefined;
  /** For all experts' weights in one tensor; default dim0. */
  stacked?: Stacking | undefined;
}

/** A weight in a tensor of any layout. */
export interface StoredWeight extends WeightLayout {
  /** The tensor that holds the weight, and perhaps others. */
  tensor: Tensor<FloatDType>;
}

/** A weight as an argument: a tensor alone has the default layout. */
export type Weight = Tensor<FloatDType> | StoredWeight;

const storedFields = {
  tensor: unchecked,
  orient: optional(choice(orients)),
  part: optional(choice(parts)),
  stacked: optional(choice(stackings)),
} satisfies Fields<StoredWeight>;
const storedWeightOption = object(storedFields, "{ tensor, orient, part, stacked }");

/** Reads a weight; {@link checkWeight} checks its tensor. */
export const weight: Reader<Weight> = (value, name) => {
  if (value instanceof Tensor) return value as Tensor<FloatDType>;
  const holdsValues = isArray(value) || ArrayBuffer.isView(value);
  if (typeof value === "object" && value !== null && !holdsValues)
    return storedWeightOption(value, name) as StoredWeight;
  throw invalidArgument(
    name,
    "a Tensor, as device.tensor(values, shape) makes, or { tensor, orient, part, stacked }",
    value,
  );
};

/** Where a matrix lies among a tensor's elements; a bias is a matrix of one row. */
export interface MatrixPlace {
  readonly offset: number;
  readonly rows: number;
  readonly columns: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/** The shape of the tensor that holds one matrix of `shape` [outputs, inputs], or one bias [outputs]. */
export function storedShape([outputs, inputs]: Shape, { orient, part }: WeightLayout): Shape {
  const all = (outputs as number) * (part === undefined ? 1 : 2);
  if (inputs === undefined) return [all];
  return orient === "in_out" ? [inputs, all] : [all, inputs];
}

/** The shape of a tensor in which `count` tensors of `shape` are stacked. */
export function stackedShape([first, ...rest]: Shape, stacked: Stacking, count: number): Shape {
  return stacked === "dim0" ? [count, first as number, ...rest] : [count * (first as number), ...rest];
}

/** Where the matrix of `shape` lies in its tensor, which has the shape {@link storedShape}. */
export function matrixPlace(shape: Shape, { orient, part }: WeightLayout): MatrixPlace {
  const [outputs, inputs] = shape as [number, number | undefined];
  const all = outputs * (part === undefined ? 1 : 2);
  const between = inputs === undefined || orient === "in_out" ? 1 : inputs;
  const outputStride = between * (part === "even" || part === "odd" ? 2 : 1);
  const offset = between * (part === "second_half" ? outputs : part === "odd" ? 1 : 0);
  if (inputs === undefined) return { offset, rows: 1, columns: outputs, rowStride: all, columnStride: outputStride };
  const inputStride = orient === "in_out" ? all : 1;
  return { offset, rows: outputs, columns: inputs, rowStride: outputStride, columnStride: inputStride };
}

/** Some rows of a matrix. */
export function someRows(place: MatrixPlace, first: number, rows: number): MatrixPlace {
  return { ...place, offset: place.offset + first * place.rowStride, rows };
}

/** Some columns of a matrix. */
export function someColumns(place: MatrixPlace, first: number, columns: number): MatrixPlace {
  return { ...place, offset: place.offset + first * place.columnStride, columns };
}

/** The matrix at a place in a tensor. Free the handle after use. */
export function matrixAt({ handle, shape }: Tensor, { offset, ...matrix }: MatrixPlace): StridedMatrix {
  return { handle: handle.view([shapeSize(shape) - offset], offset), ...matrix };
}

/** The matrix, or bias, of `shape` that a weight holds. Free the handle after use. */
export function wholeMatrix(weight: Weight, shape: Shape): StridedMatrix {
  const { tensor, ...layout } = storedWeight(weight);
  return matrixAt(tensor, matrixPlace(shape, layout));
}

/** As {@link wholeMatrix}, as a weight in the tensor's own format. */
export function wholeWeight(weight: Weight, shape: Shape): WeightMatrix {
  return plainWeight(storedWeight(weight).tensor.dtype, wholeMatrix(weight, shape));
}

export function storedWeight(weight: Weight): StoredWeight {
  return weight instanceof Tensor ? { tensor: weight } : weight;
}

/**
 * Checks that `weight` holds a matrix, or bias, of `shape`.
 * @param count number of stacked experts; absent for a single matrix.
 */
export function checkWeight(parameter: string, weight: Weight, shape: Shape, device: Tensor["device"], count?: number) {
  const { tensor, orient = "out_in", part, stacked } = storedWeight(weight);
  if (stacked !== undefined && count === undefined) {
    throw cannotCombine(`${parameter}.stacked`, "a tensor that holds a single matrix");
  }
  const shapeIn = (layout: WeightLayout) => {
    const one = storedShape(shape, layout);
    return count === undefined ? one : stackedShape(one, stacked ?? "dim0", count);
  };
  const given = { orient, part };
  const name = weight instanceof Tensor ? parameter : `${parameter}.tensor`;
  checkTensor(name, tensor, "float", shapeIn(given), device, (actual) => {
    const other = layouts.find((layout) => sameShape(actual, shapeIn({ ...given, ...layout })));
    return other === undefined ? "" : `; ${remedy(other)}`;
  });
}

/** Layouts that a tensor may have without being described so. */
const layouts: readonly WeightLayout[] = [
  { orient: "in_out" },
  { orient: "out_in" },
  { part: "first_half" },
  { orient: "in_out", part: "first_half" },
];

/** How to pass a tensor that has a layout. */
function remedy({ orient, part }: WeightLayout): string {
  const order = orient && `its ${orient === "in_out" ? "inputs" : "outputs"} come first`;
  const conditions = [order, part && "it holds this matrix and another"].filter(Boolean).join(" and ");
  const fields = [orient && `orient: "${orient}"`, part && `part: "${part}"`].filter(Boolean).join(", ");
  return `if ${conditions}, pass { tensor, ${fields} }${part ? ", or with another part" : ""}`;
}

/** The weight of `shape` of one stacked expert. Its tensor is a view; dispose of it after use. */
export function stackedWeight(weight: Weight, expert: number, shape: Shape): StoredWeight {
  const { tensor, stacked = "dim0", ...layout } = storedWeight(weight);
  const one = storedShape(shape, layout);
  const rows = stacked === "dim0" ? 1 : (one[0] as number);
  using slice = tensor.rows(expert * rows, (expert + 1) * rows);
  return { ...layout, tensor: slice.reshape(one) };
}
