import { MoeError } from "../../core/errors.js";
import type { ScaleLevel, ScaleType, WeightFormat } from "../../core/formats/weight_format.js";
import { rowBytes, weightFormat } from "../../core/formats/weight_formats.js";
import { fromBF16, fromF16, roundToEven, toBF16, toE4M3, toE8M0, toF16 } from "../../core/tensors/dtype.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, zeros } from "../core/matrix.js";
import { type ReferenceTensor, readMatrix } from "../core/tensor.js";
import { codeValue, scaleValue } from "./dequantize.js";

// How floats become codes and scales, in float32 operation by operation (`f32` rounds each), so that all devices give
// the same bits. native/core/formats/quantize.h is the same.

const f32 = Math.fround;
const largestFloat = (2 - 2 ** -23) * 2 ** 127;

interface Interval {
  readonly lowest: number;
  readonly highest: number;
}

/** The least and the greatest value of a format's codes. */
function codeRange({ code, bits, table }: WeightFormat): Interval {
  if (table !== undefined) {
    const values = table.map(f32);
    return { lowest: Math.min(...values), highest: Math.max(...values) };
  }
  if (code === "signed_integer") return { lowest: -(2 ** (bits - 1)), highest: 2 ** (bits - 1) - 1 };
  if (code === "unsigned_integer") return { lowest: 0, highest: 2 ** bits - 1 };
  return { lowest: -448, highest: 448 };
}

const clamped = (value: number, lowest: number, highest: number) => Math.min(Math.max(value, lowest), highest);

/**
 * The scale of a type that is nearest to a value, as it is stored; of e8m0, the one above, as the one below would cut
 * off up to half of a group's largest element. Values out of range become the largest or smallest in it.
 */
function encodeScale(type: ScaleType, value: number): number {
  switch (type) {
    case "f32":
      return clamped(value, -largestFloat, largestFloat);
    case "f16":
      return fromF16(toF16(clamped(value, -65504, 65504)));
    case "bf16": {
      const largest = fromBF16(0x7f7f);
      return fromBF16(toBF16(clamped(value, -largest, largest)));
    }
    case "e4m3":
      return toE4M3(value);
    case "e8m0":
      return toE8M0(value);
    case "u4":
      return roundToEven(clamped(value, 0, 15));
    case "u6":
      return roundToEven(clamped(value, 0, 63));
    case "i8":
      return roundToEven(clamped(value, -128, 127)) & 0xff;
    case "odd4":
    case "dynamic8":
      throw new MoeError("INTERNAL", "quantize: expected a format that can be quantised to, got one that is only read");
  }
}

/** The largest value of a type of scales that have a scale of their own. */
const largestScales: { readonly [Type in ScaleType]?: number } = { e4m3: 448, u4: 15, u6: 63, i8: 127 };
const isInteger = (type: ScaleType) => type === "u4" || type === "u6" || type === "i8";

/** What a group's codes are multiplied by and what is subtracted, before they are encoded. */
interface GroupScale {
  readonly scale: number;
  readonly minimum: number;
}

/** A group's scale and its zero point or minimum as they are stored, and what they are in float32. */
interface EncodedGroup {
  readonly storedScale: number;
  readonly storedZero: number;
  readonly scale: number;
  readonly zeroPoint: number;
  readonly minimum: number;
}

/** The index of the entry that is nearest to a value; of two, the even one. */
function nearestEntry(table: readonly number[], value: number): number {
  let [nearest, least] = [0, Number.POSITIVE_INFINITY];
  for (let index = 0; index < table.length; index++) {
    const distance = Math.abs(f32(f32(table[index] as number) - value));
    const evener = nearest % 2 === 1 && index % 2 === 0;
    if (distance < least || (distance === least && evener)) [nearest, least] = [index, distance];
  }
  return nearest;
}

/** The definition for one format. */
class Quantizer {
  readonly #format: WeightFormat;
  readonly #scales: ScaleLevel;
  readonly #codes: Interval;

  constructor(format: WeightFormat) {
    this.#format = format;
    this.#scales = format.scales as ScaleLevel;
    this.#codes = codeRange(format);
  }

  /** The least and the greatest of a group's elements; with 0, unless the group's minimum can have either sign. */
  interval(elements: readonly number[]): Interval {
    const { type } = this.#scales;
    const signedMinimum = this.#format.offset === "minimum" && type !== "u4" && type !== "u6";
    const first = signedMinimum ? (elements[0] as number) : 0;
    return {
      lowest: elements.reduce((least, value) => Math.min(least, value), first),
      highest: elements.reduce((most, value) => Math.max(most, value), first),
    };
  }

  /** The scale at which the codes just reach the elements of an interval; with an offset the interval is moved. */
  reachingScale({ lowest, highest }: Interval): GroupScale {
    const codes = this.#codes;
    if (this.#format.offset === undefined) {
      const below = codes.lowest < 0 ? f32(lowest / codes.lowest) : 0;
      return { scale: Math.max(f32(highest / codes.highest), below), minimum: 0 };
    }
    const scale = f32(f32(highest - lowest) / f32(codes.highest - codes.lowest));
    return { scale, minimum: f32(f32(codes.lowest * scale) - lowest) };
  }

  /** An interval this much wider, or narrower, about its middle, or about 0 if there is no offset. */
  narrowed({ lowest, highest }: Interval, width: number): Interval {
    if (this.#format.offset === undefined) return { lowest: f32(lowest * width), highest: f32(highest * width) };
    const margin = f32((0.5 - 0.5 * width) * f32(highest - lowest));
    return { lowest: f32(lowest + margin), highest: f32(highest - margin) };
  }

  /**
   * The scale of scales of which `largest` is the largest; 1 if they are all 0. For floats it is a power of two: it need
   * only move their range, and can then be stored as its reciprocal too.
   */
  superScale({ type }: ScaleLevel, largest: number): number {
    if (!(largest > 0)) return encodeScale(type, 1);
    const scales = this.#scales.type;
    const value = f32(largest / (largestScales[scales] ?? 1));
    return encodeScale(type, isInteger(scales) ? value : 2 ** (toE8M0(value) - 127));
  }

  encodeGroup(elements: Interval, superScale: number, superZero: number): EncodedGroup {
    const { offset, bits } = this.#format;
    const { type } = this.#scales;
    const ideal = this.reachingScale(elements);
    const storedScale = encodeScale(type, superScale > 0 ? f32(ideal.scale / superScale) : 0);
    const scale = f32(scaleValue(this.#scales, storedScale) * superScale);
    if (offset === "zero_point") {
      const zero = scale > 0 ? f32(this.#codes.lowest - f32(elements.lowest / scale)) : 0;
      const zeroPoint = roundToEven(clamped(zero, 0, 2 ** bits - 1));
      return { storedScale, storedZero: zeroPoint, scale, zeroPoint, minimum: 0 };
    }
    if (offset === undefined) return { storedScale, storedZero: 0, scale, zeroPoint: 0, minimum: 0 };
    const storedZero = encodeScale(type, superZero > 0 ? f32(ideal.minimum / superZero) : 0);
    const minimum = f32(scaleValue(this.#scales, storedZero) * superZero);
    return { storedScale, storedZero, scale, zeroPoint: 0, minimum };
  }

  /** The code of an element in its group: the one whose value is nearest; of two, the even one. */
  code({ scale, zeroPoint, minimum }: EncodedGroup, element: number): number {
    const { code, bits, table } = this.#format;
    const scaled = scale > 0 ? f32(f32(element + minimum) / scale) : 0;
    const value = f32(scaled + zeroPoint);
    if (code === "e4m3") return toE4M3(value);
    if (table === undefined) {
      return roundToEven(clamped(value, this.#codes.lowest, this.#codes.highest)) & ((1 << bits) - 1);
    }
    // From a value far beyond them, all entries would be equally far.
    return nearestEntry(table, clamped(value, this.#codes.lowest, this.#codes.highest));
  }

  /** The sum of the squared errors of a group's elements, in their order. */
  squaredErrors(group: EncodedGroup, elements: readonly number[]): number {
    return elements.reduce((sum, element) => {
      const code = f32(codeValue(this.#format, this.code(group, element)));
      const value = f32(f32(f32(code - group.zeroPoint) * group.scale) - group.minimum);
      const error = f32(value - element);
      return f32(sum + f32(error * error));
    }, 0);
  }

  /**
   * A group with the scale at which the codes just reach its elements; or with `search`, with the one of the least error
   * among those for intervals 36/32, 35/32 .. 13/32 as wide, of equal ones the first.
   */
  group(elements: readonly number[], superScale: number, superZero: number, search: boolean): EncodedGroup {
    const interval = this.interval(elements);
    const candidates = Array.from({ length: search ? 24 : 1 }, (_, index) => {
      const width = search ? 1.125 - index / 32 : 1;
      return this.encodeGroup(this.narrowed(interval, width), superScale, superZero);
    });
    if (!search) return candidates[0] as EncodedGroup;
    const errors = candidates.map((candidate) => this.squaredErrors(candidate, elements));
    const best = errors.reduce((best, error, index) => (error < (errors[best] as number) ? index : best), 0);
    return candidates[best] as EncodedGroup;
  }
}

/** An element to quantise. What is not finite counts as 0, and so does -0. */
const finiteElement = (value: number) => (Number.isFinite(f32(value)) ? f32(value) + 0 : 0);

/** How the groups of a level divide a matrix. */
function groupGrid({ rows, columns }: ScaleLevel, matrix: Matrix) {
  const width = columns === 0 ? matrix.columns : columns;
  return { height: rows, width, rows: Math.ceil(matrix.rows / rows), columns: Math.ceil(matrix.columns / width) };
}

type Grid = ReturnType<typeof groupGrid>;

/** The elements of a group, row by row. */
function elementsOf(matrix: Matrix, { height, width, columns }: Grid, group: number): readonly number[] {
  const elements: number[] = [];
  const [firstRow, firstColumn] = [Math.floor(group / columns) * height, (group % columns) * width];
  for (let row = firstRow; row < Math.min(firstRow + height, matrix.rows); row++) {
    for (let column = firstColumn; column < Math.min(firstColumn + width, matrix.columns); column++) {
      elements.push(matrix.values[row * matrix.columns + column] as number);
    }
  }
  return elements;
}

const fill = (count: number, value: number) => new Float64Array(count).fill(value);

export const runQuantize: Implementation<"quantize"> = (operands) => {
  const { values, search, codes, scales, superScales, zeros: offsets, superZeros } = operands;
  const format = weightFormat(operands.format);
  const quantizer = new Quantizer(format);
  const given = readMatrix(values, values.rows, values.columns);
  const matrix = { ...given, values: given.values.map(finiteElement) };
  const grid = groupGrid(format.scales as ScaleLevel, matrix);
  const groups = Array.from({ length: grid.rows * grid.columns }, (_, group) => elementsOf(matrix, grid, group));

  /** The index of the super scale of a group; a level of whole rows has the matrix's, kept for each row. */
  const shape = format.superScales;
  const superGrid = shape && groupGrid(shape, matrix);
  const unitOf = (group: number) => {
    if (superGrid === undefined || shape === undefined || shape.columns === 0) return 0;
    const row = Math.floor((Math.floor(group / grid.columns) * grid.height) / superGrid.height);
    return row * superGrid.columns + Math.floor(((group % grid.columns) * grid.width) / superGrid.width);
  };
  const count = superGrid === undefined ? 0 : superGrid.rows * superGrid.columns;
  const largest = { scale: fill(count, 0), minimum: fill(count, 0) };
  groups.forEach((elements, group) => {
    const { scale, minimum } = quantizer.reachingScale(quantizer.interval(elements));
    const unit = unitOf(group);
    largest.scale[unit] = Math.max(largest.scale[unit] as number, scale);
    largest.minimum[unit] = Math.max(largest.minimum[unit] as number, minimum);
  });
  const superValues = (level: Float64Array) =>
    level.map((_, index) =>
      quantizer.superScale(shape as ScaleLevel, level[shape?.columns === 0 ? 0 : index] as number),
    );
  const [superScaleValues, superZeroValues] = [superValues(largest.scale), superValues(largest.minimum)];
  superScales?.store(superScaleValues);
  superZeros?.store(superZeroValues);

  const encoded = groups.map((elements, group) => {
    const unit = unitOf(group);
    const value = (stored: Float64Array) => (shape === undefined ? 1 : scaleValue(shape, stored[unit] as number));
    return quantizer.group(elements, value(superScaleValues), value(superZeroValues), search);
  });
  scales.store(Float64Array.from(encoded, ({ storedScale }) => storedScale));
  offsets?.store(Float64Array.from(encoded, ({ storedZero }) => storedZero));

  const rowOfCodes = rowBytes(format, matrix.columns);
  const bytes = zeros(matrix.rows, rowOfCodes).values;
  matrix.values.forEach((element, index) => {
    const [row, column] = [Math.floor(index / matrix.columns), index % matrix.columns];
    const group = Math.floor(row / grid.height) * grid.columns + Math.floor(column / grid.width);
    const code = quantizer.code(encoded[group] as EncodedGroup, element);
    // Its bits may continue in the next byte.
    const place = column * format.bits;
    const byte = row * rowOfCodes + (place >> 3);
    const shifted = code << (place & 7);
    bytes[byte] = (bytes[byte] as number) | (shifted & 0xff);
    if (shifted > 0xff) bytes[byte + 1] = (bytes[byte + 1] as number) | (shifted >> 8);
  });
  (codes as ReferenceTensor).store(bytes);
};
