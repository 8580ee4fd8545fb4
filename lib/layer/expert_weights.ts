import { type ExpertMatrices, isGated, type LayerDescription, type StridedMatrix } from "../backend.js";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { MoeError } from "../errors.js";
import { checkOptional, checkTensor } from "../operators/check.js";
import { shapeSize } from "../shape.js";
import type { Tensor } from "../tensor.js";

/** One expert's weights, rows are outputs (y = W x); f32, f16 or bf16. */
export interface ExpertWeights {
  /** [I, H]; only and always where the activation is gated. */
  gate?: Tensor<FloatDType>;
  /** [I, H] */
  up: Tensor<FloatDType>;
  /** [I, H]; only and always where the layer has a factor. */
  factor?: Tensor<FloatDType>;
  /** [H, I] */
  down: Tensor<FloatDType>;
  /** [I] */
  gateBias?: Tensor<FloatDType>;
  /** [I] */
  upBias?: Tensor<FloatDType>;
  /** [H] */
  downBias?: Tensor<FloatDType>;
}

export type ExpertRole = keyof ExpertWeights;

/** The shapes of one expert's tensors, `inner` being its width. */
export function expertShapes(hidden: number, inner: number): Readonly<Record<ExpertRole, readonly number[]>> {
  return {
    gate: [inner, hidden],
    up: [inner, hidden],
    factor: [inner, hidden],
    down: [hidden, inner],
    gateBias: [inner],
    upBias: [inner],
    downBias: [hidden],
  };
}

export const expertRoles = Object.keys(expertShapes(1, 1)) as readonly ExpertRole[];

/** Checks one expert's tensors; `inner` is its width and `lead` what stands before its own dimensions. */
export function checkExpert(
  name: string,
  weights: ExpertWeights,
  description: LayerDescription,
  inner: number,
  device: Device,
  lead: readonly number[] = [],
): void {
  const { activation, factor, hiddenSize } = description;
  const needs = { gate: isGated(activation), factor };
  for (const role of ["gate", "factor"] as const) {
    if (needs[role] === (weights[role] !== undefined)) continue;
    const [expected, got] = needs[role] ? ["a tensor", "none"] : ["none", "one"];
    const what = role === "gate" ? `activation ${activation}` : `factor: ${factor}`;
    throw new MoeError("INVALID_ARGUMENT", `${name}.${role}: expected ${expected} for ${what}, got ${got}`);
  }
  const shapes = expertShapes(hiddenSize, inner);
  for (const role of expertRoles) {
    const check = role === "up" || role === "down" ? checkTensor : checkOptional;
    check(`${name}.${role}`, weights[role], "float", [...lead, ...shapes[role]], device);
  }
}

/** A whole tensor of one or two dimensions as a matrix. */
export function wholeMatrix({ handle, shape }: Tensor): StridedMatrix {
  const [rows, columns] = shape.length === 1 ? [1, shape[0] as number] : (shape as [number, number]);
  return { handle, rows, columns, rowStride: columns, columnStride: 1 };
}

/** Rows of a matrix, or of a vector its values, that belong to one of the equal shares of an expert's width. */
function share(tensor: Tensor, role: ExpertRole, first: number, count: number): StridedMatrix {
  const whole = wholeMatrix(tensor);
  const inColumns = role === "down" || tensor.shape.length === 1;
  const offset = first * (inColumns ? 1 : whole.rowStride);
  const handle = tensor.handle.view([shapeSize(tensor.shape) - offset], offset);
  return { ...whole, handle, ...(inColumns ? { columns: count } : { rows: count }) };
}

/**
 * The part of a wider expert that begins at row `first` of its width, as an expert of at most `inner`. The bias of the
 * output belongs to the first part. Free the handles after use.
 */
export function expertShare(weights: ExpertWeights, first: number, inner: number): ExpertMatrices {
  const count = Math.min(inner, (weights.up.shape[0] as number) - first);
  const part = (role: ExpertRole) => {
    const tensor = weights[role];
    return tensor === undefined ? null : share(tensor, role, first, count);
  };
  return {
    gate: part("gate"),
    up: part("up") as StridedMatrix,
    factor: part("factor"),
    down: part("down") as StridedMatrix,
    gateBias: part("gateBias"),
    upBias: part("upBias"),
    downBias: first === 0 && weights.downBias ? share(weights.downBias, "downBias", 0, weights.downBias.size) : null,
  };
}
