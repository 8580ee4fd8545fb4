import { type ExpertMatrices, isGated, type LayerDescription } from "../../core/backend.js";
import type { Device } from "../../core/device.js";
import { cannotCombine, invalidArgument, MoeError } from "../../core/errors.js";
import { isArray } from "../../core/foreign.js";
import { type Fields, object, optional, type Reader } from "../../core/options.js";
import type { Shape } from "../../core/shape.js";
import type { StridedMatrix } from "../../core/tensor_handle.js";
import { plainWeight, type WeightMatrix } from "../../core/weight_format.js";
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

/** One expert's weights; f32, f16 or bf16. Shapes are for the default layout. */
export interface ExpertWeights<W = Weight> {
  /** [I, H]; required if the activation is gated, otherwise not allowed. */
  gate?: W;
  /** [I, H] */
  up: W;
  /** [I, H]; required if the layer has a factor, otherwise not allowed. */
  factor?: W;
  /** [H, I] */
  down: W;
  /** [I] */
  gateBias?: W;
  /** [I] */
  upBias?: W;
  /** [H] */
  downBias?: W;
}

const expertFields = {
  gate: optional(weight),
  up: weight,
  factor: optional(weight),
  down: weight,
  gateBias: optional(weight),
  upBias: optional(weight),
  downBias: optional(weight),
} satisfies Fields<ExpertWeights>;
const readExpert = object(expertFields, "{ gate, up, down }");

/** Reads one expert's weights, or those of all experts stacked; {@link checkExpert} checks the tensors. */
export const expertWeights: Reader<ExpertWeights> = (value, name) => mapExpert(readExpert(value, name), (one) => one);

/** Reads the weights of `count` experts: a list, or stacked tensors. */
export function readExperts(value: unknown, count: number): ExpertWeights | readonly ExpertWeights[] {
  if (typeof value !== "object" || value === null) {
    throw invalidArgument("experts", "a list of expert weights or stacked tensors", value);
  }
  if (!isArray(value)) return expertWeights(value, "experts");
  if (value.length !== count) throw invalidArgument("experts", `${count} experts or stacked tensors`, value);
  return Array.from({ length: count }, (_, index) => expertWeights(value[index], `experts[${index}]`));
}

export type ExpertRole = keyof ExpertWeights;

/** The shapes of the matrices and biases of one expert of width `inner`. */
export function expertShapes(hidden: number, inner: number): Readonly<Record<ExpertRole, Shape>> {
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

/** Applies `map` to every weight that is present. */
export function mapExpert<A, B>(
  weights: { readonly [Role in ExpertRole]?: A | undefined },
  map: (weight: A, role: ExpertRole) => B,
): ExpertWeights<B> {
  const roles = expertRoles.filter((role) => weights[role] !== undefined);
  return Object.fromEntries(roles.map((role) => [role, map(weights[role] as A, role)])) as unknown as ExpertWeights<B>;
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
  const { activation, factor, hiddenSize } = description;
  const needs = { gate: isGated(activation), factor };
  for (const role of ["gate", "factor"] as const) {
    if (needs[role] === (weights[role] !== undefined)) continue;
    const what = role === "gate" ? `activation ${activation}` : `factor: ${factor}`;
    if (!needs[role]) throw cannotCombine(`${name}.${role}`, what);
    throw new MoeError("INVALID_ARGUMENT", `${name}.${role}: expected a tensor for ${what}, got none`);
  }
  const shapes = expertShapes(hiddenSize, inner);
  for (const role of expertRoles) {
    const weight = weights[role];
    if (weight !== undefined) checkWeight(`${name}.${role}`, weight, shapes[role], device, count);
  }
}

/** The weights of one of the experts stacked in `weights`, as views; dispose of these tensors after use. */
export function stackedExpert(weights: ExpertWeights, expert: number, hidden: number, inner: number) {
  const shapes = expertShapes(hidden, inner);
  return mapExpert(weights, (weight, role) => stackedWeight(weight, expert, shapes[role]));
}

/**
 * The part of a matrix that belongs to columns first .. first + count - 1 of an expert's width; undefined if none does.
 */
function share(place: MatrixPlace, role: ExpertRole, first: number, count: number): MatrixPlace | undefined {
  if (role === "downBias") return first === 0 ? place : undefined;
  const alongColumns = role === "down" || role === "gateBias" || role === "upBias";
  return alongColumns ? someColumns(place, first, count) : someRows(place, first, count);
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
    const { tensor, ...layout } = storedWeight(weight);
    const place = share(matrixPlace(shapes[role], layout), role, first, count);
    return place === undefined ? null : plainWeight(tensor.dtype, matrixAt(tensor, place));
  };
  const bias = (role: ExpertRole): StridedMatrix | null => part(role)?.codes ?? null;
  return {
    gate: part("gate"),
    up: part("up") as WeightMatrix,
    factor: part("factor"),
    down: part("down") as WeightMatrix,
    gateBias: bias("gateBias"),
    upBias: bias("upBias"),
    downBias: bias("downBias"),
  };
}
