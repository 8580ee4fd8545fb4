import { type ExpertMatrices, isGated, type LayerDescription } from "../../core/backend.js";
import type { Device } from "../../core/device.js";
import { cannotCombine, invalidArgument, MoeError } from "../../core/errors.js";
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

/** One expert's weights; f32, f16 or bf16. The shapes are those of the default layout. */
export interface ExpertWeights<W = Weight> {
  /** [I, H]; only and always where the activation is gated. */
  gate?: W;
  /** [I, H] */
  up: W;
  /** [I, H]; only and always where the layer has a factor. */
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

/** One expert's weights as given, or those of all experts stacked; {@link checkExpert} checks the tensors. */
export const expertWeights: Reader<ExpertWeights> = (value, name) => mapExpert(readExpert(value, name), (one) => one);

/** The weights of `count` experts as given: a list of them, or stacked. */
export function readExperts(value: unknown, count: number): ExpertWeights | readonly ExpertWeights[] {
  if (typeof value !== "object" || value === null) {
    throw invalidArgument("experts", "a list of expert weights or stacked tensors", value);
  }
  if (!Array.isArray(value)) return expertWeights(value, "experts");
  if (value.length !== count) throw invalidArgument("experts", `${count} experts or stacked tensors`, value);
  return Array.from({ length: count }, (_, index) => expertWeights(value[index], `experts[${index}]`));
}

export type ExpertRole = keyof ExpertWeights;

/** The shapes of one expert's matrices and biases, `inner` being its width. */
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

/** Every role that `weights` has, with what `map` makes of its weight. */
export function mapExpert<A, B>(
  weights: { readonly [Role in ExpertRole]?: A | undefined },
  map: (weight: A, role: ExpertRole) => B,
): ExpertWeights<B> {
  const roles = expertRoles.filter((role) => weights[role] !== undefined);
  return Object.fromEntries(roles.map((role) => [role, map(weights[role] as A, role)])) as unknown as ExpertWeights<B>;
}

/** Checks one expert's weights, or those of `count` stacked; `inner` is an expert's width. */
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

/** The weights of one of the experts that are stacked in `weights`. Dispose of the tensors, which are views, after use. */
export function stackedExpert(weights: ExpertWeights, expert: number, hidden: number, inner: number) {
  const shapes = expertShapes(hidden, inner);
  return mapExpert(weights, (weight, role) => stackedWeight(weight, expert, shapes[role]));
}

/** What of a matrix belongs to a share of an expert's width; undefined where nothing does. */
function share(place: MatrixPlace, role: ExpertRole, first: number, count: number): MatrixPlace | undefined {
  if (role === "downBias") return first === 0 ? place : undefined;
  const alongColumns = role === "down" || role === "gateBias" || role === "upBias";
  return alongColumns ? someColumns(place, first, count) : someRows(place, first, count);
}

/**
 * The part of an expert of width `width` that begins at `first`, as an expert of at most `inner`. The bias of the output
 * belongs to the first part. Free the handles after use.
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
