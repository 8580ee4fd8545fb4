import { columnsIn, weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import { checkTensor } from "../check.js";
import { checkQuantized, mapTensors, type QuantizedWeight, stackedQuantized } from "../experts/quantized_weight.js";

/** A matrix [N, K], or a stack of them [E, N, K]. */
export interface Matrices {
  /** How many there are to work on; 0 if they are empty. */
  readonly count: number;
  /** The sizes before N. */
  readonly lead: Shape;
  readonly rows: number;
  readonly columns: number;
}

/** Checks that a tensor is a matrix or a stack of matrices. */
export function checkMatrices(parameter: string, values: Tensor<FloatDType>): Matrices {
  const stacked = values instanceof Tensor && values.shape.length === 3;
  checkTensor(parameter, values, "float", stacked ? ["E", "N", "K"] : ["N", "K"]);
  return matricesOf(values.shape);
}

export function matricesOf(shape: Shape): Matrices {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const lead = shape.slice(0, -2);
  return { count: shapeSize(shape) === 0 ? 0 : shapeSize(lead), lead, rows, columns };
}

/** Checks the tensors of a quantised matrix, or of a stack. @param width K, if the weight does not say it. */
export function checkQuantizedMatrices(weight: QuantizedWeight, width?: number): Matrices {
  const { codes, part } = weight;
  const stacked = codes instanceof Tensor && codes.shape.length === 3;
  checkTensor("weight.codes", codes, ["u8"], stacked ? ["E", "N", "bytes"] : ["N", "bytes"]);
  const [stored, bytes] = codes.shape.slice(-2) as [number, number];
  const rows = part === undefined ? stored : Math.floor(stored / 2);
  const columns = weight.columns ?? width ?? columnsIn(weightFormat(weight.format), bytes);
  checkQuantized("weight", weight, [rows, columns], codes.device, stacked ? codes.shape[0] : undefined);
  return matricesOf([...codes.shape.slice(0, -2), rows, columns]);
}

/** One matrix of a stack, or the only one, as views; dispose of its tensors after use. */
export function matrixOf(weight: QuantizedWeight, index: number): QuantizedWeight {
  if (weight.codes.shape.length === 3) return stackedQuantized(weight, index);
  return mapTensors(weight, (tensor) => tensor.reshape(tensor.shape));
}

/** Matrix `index` of a stack, or the only one. Free its handle after use. */
export function denseMatrix({ handle, shape }: Tensor, index: number): StridedMatrix {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const view = handle.view([rows, columns], index * rows * columns);
  return { handle: view, rows, columns, rowStride: columns, columnStride: 1 };
}
