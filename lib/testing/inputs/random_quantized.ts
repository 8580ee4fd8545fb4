import type { Device } from "../../core/device/device.js";
import type { ScaleLevel, ScaleType, WeightFormat, WeightFormatName } from "../../core/formats/weight_format.js";
import { levelsOf, rowBits, weightFormat } from "../../core/formats/weight_formats.js";
import { toE4M3 } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { type QuantizedWeight, quantizedTensors, type TensorRole } from "../../operators/experts/quantized_weight.js";
import type { Random } from "./random.js";

/** The largest magnitude of a format's codes, zero points subtracted. */
function largestCode({ code, bits, table }: WeightFormat): number {
  if (code === "e4m3") return 448;
  if (table !== undefined) return Math.max(...table.map(Math.abs));
  return code === "signed_integer" ? 2 ** (bits - 1) : 2 ** bits;
}

/**
 * A random matrix [N, K] in a quantised format, with every code and with values of about `deviation` and around 0.
 * @param lead sizes before N, of stacked matrices.
 */
export function randomQuantized(
  device: Device,
  random: Random,
  name: WeightFormatName,
  matrix: readonly [number, number],
  deviation = matrix[1] ** -0.5,
  lead: Shape = [],
): QuantizedWeight {
  const format = weightFormat(name);
  const { scales, superScales, offset, code, bits } = format;
  const shapes = new Map(quantizedTensors(name, [...lead, ...matrix]).map(([role, shape]) => [role, shape]));
  const integers = (role: TensorRole, most: number) => {
    const shape = shapes.get(role) as Shape;
    const values = new Uint8Array(shapeSize(shape)).map(() => random.integer(0, most));
    return device.tensor(values, shape) as Tensor<"u8">;
  };
  const level = (role: TensorRole, { type }: ScaleLevel, size: number): Tensor => {
    const shape = shapes.get(role) as Shape;
    const values = new Float64Array(shapeSize(shape)).map(() => size * (0.5 + random.uniform()));
    return scaleTensor(device, type, values, shape);
  };
  const codes = integers("codes", 255);
  clearRowEnds(codes, format, matrix[1]);
  if (code === "e4m3") codes.write(codes.dataSync().map((raw) => ((raw & 0x7f) === 0x7f ? 0 : raw)));
  // Integer scales have values around a quarter of their range, which the scale above them takes back. Nested ones lie on
  // both sides of their offset.
  const size = (2 * deviation) / largestCode(format);
  const small = superScales === undefined ? size : scales?.type === "e4m3" ? 1 : smallScale(scales?.type);
  const middle = 2 ** (bits - 1);
  const nested = offset === "scale_offset";
  return {
    format: name,
    codes,
    ...(scales && { scales: nested ? integers("scales", 255) : level("scales", scales, small) }),
    ...(superScales && { superScales: level("superScales", superScales, size / small) }),
    ...(offset === "zero_point" && { zeros: integers("zeros", 2 ** bits - 1) }),
    ...(offset === "minimum" && scales && { zeros: level("zeros", scales, superScales ? small : small * middle) }),
    ...(offset === "minimum" &&
      superScales && { superZeros: level("superZeros", superScales, (size / small) * middle) }),
    ...(nested && { superZeros: level("superZeros", levelsOf(format).superZeros as ScaleLevel, size) }),
  };
}

/** Clears the bits of each row's last byte that no code has: whoever writes codes writes zeros there. */
function clearRowEnds(codes: Tensor, format: WeightFormat, columns: number): void {
  const used = rowBits(format, columns) % 8;
  const width = codes.shape.at(-1) as number;
  if (used === 0 || codes.size === 0) return;
  const bytes = codes.dataSync();
  for (let last = width - 1; last < bytes.length; last += width)
    bytes[last] = (bytes[last] as number) & (2 ** used - 1);
  codes.write(bytes);
}

export const inputChanges = ["none", "scale", "order", "both"] as const;
/** What a quantised weight does to its inputs. */
export type InputChange = (typeof inputChanges)[number];

/** Random input scales and orders of matrices with K columns; `lead` as in {@link randomQuantized}. */
export function randomInputs(
  device: Device,
  random: Random,
  change: InputChange,
  columns: number,
  lead: Shape = [],
): Pick<QuantizedWeight, "inputScale" | "inputOrder"> {
  const shape = [...lead, columns];
  const scales = new Float32Array(shapeSize(shape)).map(() => 0.5 + random.uniform());
  const orders = new Int32Array(shapeSize(shape));
  for (let first = 0; first < orders.length; first += columns) orders.set(random.sample(columns, columns), first);
  return {
    ...((change === "scale" || change === "both") && { inputScale: device.tensor(scales, shape) }),
    ...((change === "order" || change === "both") && { inputOrder: device.tensor(orders, shape) }),
  };
}

/** Random matrices [E, N, K] of experts as {@link packExperts} takes them, with what they do to their inputs. */
export function randomExperts(
  device: Device,
  random: Random,
  format: WeightFormatName,
  [experts, rows, columns]: readonly [number, number, number],
  change: InputChange,
): QuantizedWeight {
  return {
    ...randomQuantized(device, random, format, [rows, columns], columns ** -0.5, [experts]),
    ...randomInputs(device, random, change, columns, [experts]),
    columns,
  };
}

function smallScale(type: ScaleType | undefined): number {
  return type === "dynamic8" ? 2 : type === "u4" ? 6 : type === "odd4" ? 12 : type === "u6" ? 24 : 48;
}

function scaleTensor(device: Device, type: ScaleType, values: Float64Array, shape: Shape): Tensor {
  switch (type) {
    case "f32":
      return device.tensor(Float32Array.from(values), shape);
    case "f16":
    case "bf16":
      return device.tensor(Float32Array.from(values), shape, type);
    case "e8m0":
      return device.tensor(
        Uint8Array.from(values, (value) => Math.round(Math.log2(value)) + 127),
        shape,
      );
    case "e4m3":
      return device.tensor(Uint8Array.from(values, toE4M3), shape);
    case "odd4":
      return device.tensor(
        Uint8Array.from(values, (value) => Math.round((value - 1) / 2)),
        shape,
      );
    default:
      return device.tensor(
        Uint8Array.from(values, (value) => Math.round(value)),
        shape,
      );
  }
}
