import type { ExpertFormats, ExpertMatrices, LayerDescription } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import { freeWeight, type WeightFormatName, type WeightMatrix } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { disposeQuantized, type QuantizedWeight, quantizedMatrix } from "../../operators/experts/quantized_weight.js";
import { denseMatrix } from "../../operators/formats/matrices.js";
import { emptyQuantized, type QuantizeOptions, quantizeInto } from "../../operators/formats/quantize.js";
import {
  askedFormat,
  type ExpertSet,
  formatsOf,
  isUniform,
  type MatrixRole,
  matrixRoles,
  type WeightDTypes,
} from "../description/storage.js";
import { type ExpertWeights, expertShare } from "./expert_weights.js";
import { withMatrices } from "./linear.js";

/** Which matrices of a layer are quantised when they are set, and how. */
export interface Quantizing extends QuantizeOptions {
  readonly roles: Readonly<Record<ExpertSet, readonly MatrixRole[]>>;
}

/**
 * What the options `dtype` and `quantize` ask to be quantised. Roles that only keep a quantised format are not among
 * them, so that an expert in another format is an error.
 */
export function quantizing(
  dtype: WeightFormatName | WeightDTypes | undefined,
  options: QuantizeOptions = {},
): Quantizing | undefined {
  if (dtype === undefined || isUniform(dtype)) return undefined;
  const asked = (set: ExpertSet) =>
    matrixRoles.filter((role) => !isPlain(weightFormat(askedFormat(dtype, set, role) ?? "f32")));
  const roles = { experts: asked("experts"), shared: asked("shared") };
  const latent = typeof dtype === "object" && !isPlain(weightFormat(dtype.latent ?? "f32"));
  return roles.experts.length + roles.shared.length === 0 && !latent ? undefined : { ...options, roles };
}

/**
 * Passes an expert's weights to `set`, quantised where they are to be. Only an expert that is stored as several is
 * quantised here: before it is divided, so that the result is that of the whole, unless this would cut groups.
 */
export function withQuantizedWhole(
  device: Device,
  description: LayerDescription,
  weights: ExpertWeights,
  width: number,
  expertSet: ExpertSet,
  quantizing: Quantizing | undefined,
  set: (weights: ExpertWeights) => void,
): void {
  const { intermediateSize } = description;
  const formats = formatsOf(description.formats, expertSet);
  const roles = (quantizing?.roles[expertSet] ?? []).filter((role) => divides(formats[role], role, intermediateSize));
  if (quantizing === undefined || width <= intermediateSize || roles.length === 0) {
    set(weights);
    return;
  }
  const made: QuantizedWeight[] = [];
  try {
    const whole = expertShare(weights, { ...description, intermediateSize: width }, width, 0);
    withMatrices({ ...whole }, (matrices) => {
      const quantized = toQuantize(matrices, formats, roles).map(([role, matrix]) => {
        const weight = quantizeMatrix(device, matrix, formats[role], quantizing);
        made.push(weight);
        return [role, weight] as const;
      });
      set({ ...weights, ...Object.fromEntries(quantized) });
    });
  } finally {
    made.forEach(disposeQuantized);
  }
}

/** Passes the matrices of an expert to `set`, quantised where they are to be and are not yet. */
export function withQuantized(
  device: Device,
  description: LayerDescription,
  matrices: ExpertMatrices,
  expertSet: ExpertSet,
  quantizing: Quantizing | undefined,
  set: (matrices: ExpertMatrices) => void,
): void {
  if (quantizing === undefined) {
    set(matrices);
    return;
  }
  const formats = formatsOf(description.formats, expertSet);
  const made: [MatrixRole, WeightMatrix][] = [];
  try {
    for (const [role, matrix] of toQuantize(matrices, formats, quantizing.roles[expertSet])) {
      const weight = quantizeMatrix(device, matrix, formats[role], quantizing);
      made.push([role, quantizedMatrix(role, weight, [matrix.rows, matrix.columns])]);
      disposeQuantized(weight);
    }
    set({ ...matrices, ...Object.fromEntries(made) });
  } finally {
    for (const [, matrix] of made) freeWeight(matrix);
  }
}

/** The matrices of these roles that are not in their role's format. */
function toQuantize(
  matrices: ExpertMatrices,
  formats: ExpertFormats,
  roles: readonly MatrixRole[],
): readonly (readonly [MatrixRole, WeightMatrix])[] {
  return roles.flatMap((role) => {
    const matrix = matrices[role];
    return matrix === null || matrix.format === formats[role] ? [] : [[role, matrix] as const];
  });
}

/** Whether parts of `width` rows, or of as many columns of down, begin with whole groups and bytes. */
export function divides(name: WeightFormatName, role: MatrixRole, width: number): boolean {
  const { bits, scales, superScales } = weightFormat(name);
  const levels = [scales, superScales].filter((level) => level !== undefined);
  if (role !== "down") return levels.every(({ rows }) => width % rows === 0);
  return (width * bits) % 8 === 0 && levels.every(({ columns }) => columns === 0 || width % columns === 0);
}

/** Quantises a matrix of any format. */
export function quantizeMatrix(
  device: Device,
  matrix: WeightMatrix,
  format: WeightFormatName,
  { scale = "largest" }: QuantizeOptions,
): QuantizedWeight {
  const { rows, columns } = matrix;
  const weight = emptyQuantized(device, format, [rows, columns]);
  try {
    if (
      isPlain(weightFormat(matrix.format)) &&
      !matrix.inputScale &&
      !matrix.inputOrder &&
      matrix.scalar === undefined
    ) {
      quantizeInto(weight, matrix.codes, device, scale);
      return weight;
    }
    using values = device.empty([rows, columns], "f32");
    device.backend.dequantize({ weight: matrix, values: values.handle });
    const source = denseMatrix(values, 0);
    quantizeInto(weight, source, device, scale);
    source.handle.free();
    return weight;
  } catch (error) {
    disposeQuantized(weight);
    throw error;
  }
}
