import type { ExpertMatrices, LayerDescription } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import { cannotCombine, invalidArgument, unexpected } from "../../core/errors.js";
import { plainWeight, type WeightMatrix } from "../../core/formats/weight_format.js";
import { isArray } from "../../core/input/foreign.js";
import { type Fields, list, object, optional, type Reader, unchecked } from "../../core/input/options.js";
import { isGated } from "../../core/layer/activation.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import {
  checkQuantized,
  disposeQuantized,
  isQuantized,
  type QuantizedWeight,
  quantizedMatrix,
  quantizedWeight,
  stackedQuantized,
} from "../../operators/experts/quantized_weight.js";
import { biasRoles, matrixRoles } from "../description/storage.js";
import {
  checkWeight,
  type MatrixPlace,
  matrixAt,
  matrixPlace,
  someColumns,
  someRows,
  stackedWeight,
  storedWeight,
  type Weight,
  weight,
} from "./weight_layout.js";

/** A matrix of an expert: f32, f16 or bf16 in any layout, or quantised. */
export type ExpertMatrix = Weight | QuantizedWeight;

/** One expert's weights. Shapes are for the default layout. */
export interface ExpertWeights<Matrix = ExpertMatrix, Bias = Weight> {
  /** [I, H]; required if the activation is gated, otherwise not allowed. */
  gate?: Matrix | undefined;
  /** [I, H] */
  up: Matrix;
  /** [I, H]; required if the layer has a multiplier, otherwise not allowed. */
  multiplier?: Matrix | undefined;
  /** [H, I] */
  down: Matrix;
  /** [I] */
  gateBias?: Bias | undefined;
  /** [I] */
  upBias?: Bias | undefined;
  /** [H] */
  downBias?: Bias | undefined;
}

/** The matrices of experts, as far as they have them. */
export function matricesOf<Matrix>(
  ...sets: readonly (Partial<ExpertWeights<Matrix, unknown>> | undefined)[]
): readonly Matrix[] {
  return sets
    .flatMap((set) => [set?.gate, set?.up, set?.multiplier, set?.down])
    .filter((one): one is Matrix => one !== undefined);
}

export const matrix: Reader<ExpertMatrix> = (value, name) =>
  isQuantized(value) ? quantizedWeight(value, name) : weight(value, name);

const expertFields = {
  gate: optional(matrix),
  up: matrix,
  multiplier: optional(matrix),
  down: matrix,
  gateBias: optional(weight),
  upBias: optional(weight),
  downBias: optional(weight),
} satisfies Fields<ExpertWeights>;
const readExpert = object(expertFields, "{ gate, up, down }");

/** Reads one expert's weights, or those of all experts stacked; {@link checkExpert} checks the tensors. */
export const expertWeights: Reader<ExpertWeights> = (value, name) =>
  mapExpert(readExpert(value, name), (one) => one) as ExpertWeights;

/** Reads the weights of `count` experts: a list, or stacked tensors. */
export function readExperts(value: unknown, count: number): ExpertWeights | readonly ExpertWeights[] {
  if (typeof value !== "object" || value === null) {
    throw invalidArgument("experts", "a list of expert weights or stacked tensors", value);
  }
  if (!isArray(value)) return expertWeights(value, "experts");
  const given = list(unchecked)(value, "experts");
  if (given.length !== count) throw invalidArgument("experts", `${count} experts or stacked tensors`, value);
  return given.map((one, index) => expertWeights(one, `experts[${index}]`));
}

export type ExpertRole = keyof ExpertWeights;

/** The shapes of the matrices and biases of one expert of width `inner`. */
export function expertShapes(hidden: number, inner: number): Readonly<Record<ExpertRole, Shape>> {
  return {
    gate: [inner, hidden],
    up: [inner, hidden],
    multiplier: [inner, hidden],
    down: [hidden, inner],
    gateBias: [inner],
    upBias: [inner],
    downBias: [hidden],
  };
}

export const expertRoles: readonly ExpertRole[] = [...matrixRoles, ...biasRoles];

/** Applies `map` to every weight that is present. */
export function mapExpert<A, B>(
  weights: { readonly [Role in ExpertRole]?: A | undefined },
  map: (weight: A, role: ExpertRole) => B,
): ExpertWeights<B, B> {
  const roles = expertRoles.filter((role) => weights[role] !== undefined);
  return Object.fromEntries(roles.map((role) => [role, map(weights[role] as A, role)])) as unknown as ExpertWeights<
    B,
    B
  >;
}

/** Checks the weights of one expert of width `inner`, or of `count` stacked ones. */
export function checkExpert(
  name: string,
  weights: ExpertWeights,
  description: LayerDescription,
  inner: number,
  device: Device,
  count?: number,
): void {
  const { activation, multiplier, hiddenSize } = description;
  const needs = { gate: isGated(activation), multiplier };
  for (const role of ["gate", "multiplier"] as const) {
    if (needs[role] === (weights[role] !== undefined)) continue;
    const what = role === "gate" ? `activation ${activation}` : `multiplier: ${multiplier}`;
    if (!needs[role]) throw cannotCombine(`${name}.${role}`, what);
    throw unexpected(`${name}.${role}`, `a tensor for ${what}`, "none");
  }
  if (!needs.gate && weights.gateBias !== undefined)
    throw cannotCombine(`${name}.gateBias`, `activation ${activation}`);
  const shapes = expertShapes(hiddenSize, inner);
  for (const role of expertRoles) {
    const weight = weights[role];
    if (weight === undefined) continue;
    if (!isQuantized(weight)) checkWeight(`${name}.${role}`, weight, shapes[role], device, count);
    else checkQuantized(`${name}.${role}`, weight, shapes[role] as [number, number], device, count);
  }
}

/** The weights of one of the experts stacked in `weights`, as views; {@link disposeExpert} after use. */
export function stackedExpert(weights: ExpertWeights, expert: number, hidden: number, inner: number): ExpertWeights {
  const shapes = expertShapes(hidden, inner);
  return mapExpert<ExpertMatrix, ExpertMatrix>(weights, (weight, role) =>
    isQuantized(weight) ? stackedQuantized(weight, expert) : stackedWeight(weight, expert, shapes[role]),
  ) as ExpertWeights;
}

/** Frees the tensors of an expert's weights. */
export function disposeExpert(weights: ExpertWeights): void {
  mapExpert<ExpertMatrix, void>(weights, disposeExpertMatrix);
}

export function disposeExpertMatrix(weight: ExpertMatrix): void {
  if (isQuantized(weight)) disposeQuantized(weight);
  else storedWeight(weight).tensor.dispose();
}

/**
 * The part of a matrix that belongs to columns first .. first + count - 1 of an expert's width; undefined if none does.
 */
function share(place: MatrixPlace, role: ExpertRole, first: number, count: number): MatrixPlace | undefined {
  if (role === "downBias") return first === 0 ? place : undefined;
  const alongColumns = role === "down" || role === "gateBias" || role === "upBias";
  return alongColumns ? someColumns(place, first, count) : someRows(place, first, count);
}

/** As {@link share}, of a quantised matrix. */
function quantizedShare(
  role: ExpertRole,
  weight: QuantizedWeight,
  shape: readonly [number, number],
  first: number,
  count: number,
): WeightMatrix {
  const [rows, columns] = shape;
  const part =
    role === "down"
      ? { firstRow: 0, rows, firstColumn: first, columns: count }
      : { firstRow: first, rows: count, firstColumn: 0, columns };
  return quantizedMatrix(role, weight, shape, part);
}

/**
 * The part of an expert of width `width` that begins at `first`, as an expert of width intermediateSize or less. The
 * output's bias belongs to the first part. Free the handles after use.
 */
export function expertShare(
  weights: ExpertWeights,
  { hiddenSize, intermediateSize }: LayerDescription,
  width: number,
  first: number,
): ExpertMatrices {
  const shapes = expertShapes(hiddenSize, width);
  const count = Math.min(intermediateSize, width - first);
  const part = (role: ExpertRole): WeightMatrix | null => {
    const weight = weights[role];
    if (weight === undefined) return null;
    if (isQuantized(weight)) return quantizedShare(role, weight, shapes[role] as [number, number], first, count);
    const { tensor, ...layout } = storedWeight(weight);
    const place = share(matrixPlace(shapes[role], layout), role, first, count);
    return place === undefined ? null : plainWeight(tensor.dtype, matrixAt(tensor, place));
  };
  const bias = (role: ExpertRole): StridedMatrix | null => part(role)?.codes ?? null;
  return {
    gate: part("gate"),
    up: part("up") as WeightMatrix,
    multiplier: part("multiplier"),
    down: part("down") as WeightMatrix,
    gateBias: bias("gateBias"),
    upBias: bias("upBias"),
    downBias: bias("downBias"),
  };
}
