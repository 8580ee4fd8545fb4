import type { Device } from "../../core/device/device.js";
import { invalidArgument, MoeError } from "../../core/errors.js";
import type { ScaleLevel, WeightFormat, WeightFormatName, WeightMatrix } from "../../core/formats/weight_format.js";
import {
  byteOfColumn,
  type InputField,
  inputFields,
  isPlain,
  levelRoles,
  levelsOf,
  rowBytes,
  weightFormat,
} from "../../core/formats/weight_formats.js";
import {
  choice,
  type Fields,
  finite,
  integer,
  object,
  optional,
  type Reader,
  text,
  unchecked,
} from "../../core/input/options.js";
import type { DType } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import { checkTensor } from "../check.js";

/** Which outputs of a tensor belong to this matrix, if it shares the tensor with another. */
export type Part = "first_half" | "second_half" | "even" | "odd";
export const parts: readonly Part[] = ["first_half", "second_half", "even", "odd"];

/**
 * A matrix [N, K], or those of E experts [E, N, K], in a quantised format. Rows are outputs (y = W x). The tensors of
 * scales have one value for each group of rows and columns, in the dtype that the format names; those of `e4m3`, `e8m0`
 * and of integers are u8. With `part`, the tensors have the rows of two matrices.
 */
export interface QuantizedWeight {
  /** See {@link WeightFormatName}. */
  format: WeightFormatName;
  /** [N, ceil(K * bits / 8)] u8: each row's codes one after another, lower columns in lower bits. */
  codes: Tensor<"u8">;
  /** [ceil(N / rows), ceil(K / columns)] for the format's groups of rows x columns. */
  scales?: Tensor | undefined;
  /** The scales' scales. */
  superScales?: Tensor | undefined;
  /** The zero points (u8), or for formats with minima, those: what is subtracted is minimum * super minimum. */
  zeros?: Tensor | undefined;
  /** The minima's scales, or what is added to a row's scales once these are scaled. */
  superZeros?: Tensor | undefined;
  /** Multiplies the whole matrix; default 1. Products need float32 scales to take up another, except on `reference`. */
  scalar?: number | undefined;
  /** [K] f32, multiplies the columns. */
  inputScale?: Tensor<"f32"> | undefined;
  /** [K] i32, the input that each stored column multiplies. */
  inputOrder?: Tensor<"i32"> | undefined;
  /** Which rows of the tensors belong to this matrix, if gate and up share them; default all. */
  part?: Part | undefined;
  /** K, for {@link packExperts} if the last byte of a row is not full. */
  columns?: number | undefined;
}

const fields = {
  format: text,
  codes: unchecked,
  scales: unchecked,
  superScales: unchecked,
  zeros: unchecked,
  superZeros: unchecked,
  scalar: optional(finite),
  inputScale: unchecked,
  inputOrder: unchecked,
  part: optional(choice(parts)),
  columns: optional(integer(0)),
} satisfies Fields<QuantizedWeight>;
const readFields = object(fields, "{ format, codes, scales }", ["codes"]);

/** Reads a weight in a quantised format; {@link checkQuantized} checks its tensors. */
export const quantizedWeight: Reader<QuantizedWeight> = (value, name) => {
  const read = readFields(value, name);
  const format = weightFormat(read.format, `${name}.format`);
  if (isPlain(format)) {
    throw invalidArgument(`${name}.format`, "a quantised format; pass floats as a tensor", read.format);
  }
  return { ...read, format: format.name } as QuantizedWeight;
};

/** Whether a value is meant as a quantised weight; {@link quantizedWeight} then reads it. */
export function isQuantized(value: unknown): value is QuantizedWeight {
  try {
    return typeof value === "object" && value !== null && "codes" in value;
  } catch {
    return false; // a revoked proxy, which the reader of plain weights refuses
  }
}

/** Rows and columns of a level of a matrix of `rows` x `columns`. */
function levelSize(level: ScaleLevel, rows: number, columns: number): readonly [number, number] {
  return [Math.ceil(rows / level.rows), level.columns === 0 ? 1 : Math.ceil(columns / level.columns)];
}

const inputDTypes = { inputScale: "f32", inputOrder: "i32" } as const satisfies Record<InputField, DType>;

/** The dtype of a level's tensor. */
function levelDType({ type }: ScaleLevel): DType {
  return type === "f32" || type === "f16" || type === "bf16" ? type : "u8";
}

/** The tensors' rows: those of two matrices if each holds a part. */
const storedRows = ({ part }: QuantizedWeight, rows: number) => (part === undefined ? rows : 2 * rows);

/**
 * Checks that a weight holds a matrix of `shape` [N, K].
 * @param count number of stacked experts; absent for a single matrix.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; INVALID_ARGUMENT for a tensor that the format
 * needs and that is missing, or that it does not have.
 */
export function checkQuantized(
  parameter: string,
  weight: QuantizedWeight,
  [rows, columns]: readonly [number, number],
  device: Device,
  count?: number,
): void {
  const has = (field: InputField) => weight[field] !== undefined;
  const lead = count === undefined ? [] : [count];
  const expected = quantizedTensors(weight.format, [...lead, storedRows(weight, rows), columns], has);
  for (const [role, shape, dtype] of expected) {
    checkTensor(`${parameter}.${role}`, weight[role], [dtype], shape, device);
  }
  const superfluous = levelRoles.find((role) => weight[role] !== undefined && !expected.some(([one]) => one === role));
  if (superfluous === undefined) return;
  throw invalidArgument(`${parameter}.${superfluous}`, `nothing, as ${weight.format} has none`, weight[superfluous]);
}

/**
 * The tensors of a matrix [N, K] in a format, or of those of a stack [E, N, K], each with its shape and dtype.
 * @param has whether the matrix has a tensor that changes its inputs; default: it has none.
 */
export function quantizedTensors(
  name: WeightFormatName,
  shape: Shape,
  has: (field: InputField) => boolean = () => false,
): readonly (readonly [TensorRole, Shape, DType])[] {
  const format = weightFormat(name);
  const levels = levelsOf(format);
  const lead = shape.slice(0, -2);
  const [rows, columns] = shape.slice(-2) as [number, number];
  return [
    ["codes", [...lead, rows, rowBytes(format, columns)], "u8"],
    ...levelRoles.flatMap((role) => {
      const level = levels[role];
      if (level === undefined) return [];
      return [[role, [...lead, ...levelSize(level, rows, columns)], levelDType(level)] as const];
    }),
    ...inputFields.filter(has).map((field) => [field, [...lead, columns], inputDTypes[field]] as const),
  ];
}

/** A part of a matrix, in its own rows and columns. */
export interface MatrixPart {
  readonly firstRow: number;
  readonly rows: number;
  readonly firstColumn: number;
  readonly columns: number;
}

/**
 * A part of the matrix of `shape` [N, K] that a checked weight holds. Free the handles after use.
 * @throws UNSUPPORTED_OPERATION if the part would cut a group of elements that share a scale, or a byte of codes.
 */
export function quantizedMatrix(
  parameter: string,
  weight: QuantizedWeight,
  shape: readonly [number, number],
  part: MatrixPart = { firstRow: 0, rows: shape[0], firstColumn: 0, columns: shape[1] },
): WeightMatrix {
  const format = weightFormat(weight.format);
  const step = weight.part === "even" || weight.part === "odd" ? 2 : 1;
  const base = weight.part === "second_half" ? shape[0] : weight.part === "odd" ? 1 : 0;
  const stored = { ...part, parameter, format, step, firstRow: base + part.firstRow * step, allColumns: shape[1] };
  const vector = (tensor: Tensor) => tensor.handle.view([part.columns], part.firstColumn);
  const levels = levelsOf(format);
  const parts = levelRoles.flatMap((role) => {
    const [level, tensor] = [levels[role], weight[role]];
    return level && tensor ? [[role, scalesOfPart(tensor, level, stored)] as const] : [];
  });
  return {
    format: format.name,
    rows: part.rows,
    columns: part.columns,
    codes: codesOfPart(weight.codes, stored),
    ...Object.fromEntries(parts),
    ...(weight.scalar !== undefined && { scalar: weight.scalar }),
    ...(weight.inputScale && { inputScale: vector(weight.inputScale) }),
    ...(weight.inputOrder && { inputOrder: vector(weight.inputOrder) }),
  };
}

/** Where a part of a matrix is in the tensors that hold it. */
interface StoredPart extends MatrixPart {
  readonly parameter: string;
  readonly format: WeightFormat;
  /** Of the stored rows: the first one, and how far the next ones are apart. */
  readonly firstRow: number;
  readonly step: number;
  /** K, of which `columns` are the part's. */
  readonly allColumns: number;
}

/** The values of a level of scales for a part. */
function scalesOfPart(tensor: Tensor, level: ScaleLevel, part: StoredPart): StridedMatrix {
  const { parameter, format, step, firstRow, allColumns } = part;
  const { rows } = level;
  // Every part of a row has the scale of the row.
  const columns = level.columns === 0 ? allColumns : level.columns;
  const firstColumn = level.columns === 0 ? 0 : part.firstColumn;
  if ((rows > 1 && (step > 1 || firstRow % rows !== 0)) || firstColumn % columns !== 0) {
    const place = `rows from ${firstRow}${step > 1 ? " in steps of 2" : ""} and columns from ${part.firstColumn}`;
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `${parameter}: expected a matrix whose ${place} begin with a group of ${format.name}, got groups of ` +
        `${rows} x ${columns}; dequantise it first`,
    );
  }
  const width = Math.ceil(allColumns / columns);
  const offset = Math.floor(firstRow / rows) * width + firstColumn / columns;
  return {
    handle: tensor.handle.view([shapeSize(tensor.shape) - offset], offset),
    rows: Math.ceil(part.rows / rows),
    columns: Math.ceil(part.columns / columns),
    rowStride: step * width,
    columnStride: 1,
  };
}

/** The codes of a part, a byte an entry. A group of eight columns fills whole bytes. */
function codesOfPart(codes: Tensor, part: StoredPart): StridedMatrix {
  const { parameter, format, step, firstRow } = part;
  const bytes = rowBytes(format, part.allColumns);
  const firstByte = byteOfColumn(format, part.firstColumn);
  if (!Number.isInteger(firstByte)) {
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `${parameter}: column ${part.firstColumn} of ${format.name} does not begin with a byte; dequantise it first`,
    );
  }
  const offset = firstRow * bytes + firstByte;
  return {
    handle: codes.handle.view([shapeSize(codes.shape) - offset], offset),
    rows: part.rows,
    columns: rowBytes(format, part.columns),
    rowStride: step * bytes,
    columnStride: 1,
  };
}

/** The weight of one of the experts stacked in `weight`, as views; dispose of its tensors after use. */
export function stackedQuantized(weight: QuantizedWeight, expert: number): QuantizedWeight {
  return mapTensors(weight, (tensor) => {
    using slice = tensor.rows(expert, expert + 1);
    return slice.reshape(tensor.shape.slice(1));
  });
}

/** Frees a weight's tensors. */
export function disposeQuantized(weight: QuantizedWeight): void {
  mapTensors(weight, (tensor) => {
    tensor.dispose();
    return tensor;
  });
}

/** A weight that frees its tensors when it is disposed of. */
export function ownedQuantized(weight: QuantizedWeight): QuantizedWeight & Disposable {
  return Object.defineProperty(weight as QuantizedWeight & Disposable, Symbol.dispose, {
    value: () => disposeQuantized(weight),
  });
}

export const tensorRoles = ["codes", ...levelRoles, ...inputFields] as const;

/** The fields of a quantised weight that are tensors. */
export type TensorRole = (typeof tensorRoles)[number];

/** A weight's tensors. */
export function tensorsOf(weight: QuantizedWeight): readonly Tensor[] {
  return tensorRoles.flatMap((role) => weight[role] ?? []);
}

/** The weight with other tensors. */
export function mapTensors(weight: QuantizedWeight, map: (tensor: Tensor) => Tensor): QuantizedWeight {
  const present = tensorRoles.filter((role) => weight[role] !== undefined);
  return { ...weight, ...Object.fromEntries(present.map((role) => [role, map(weight[role] as Tensor)])) };
}
