import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/formats/weight_format.js";
import { isPlain, levelsOf, weightFormat } from "../../core/formats/weight_formats.js";
import { fromBF16, fromF16, toBF16, toF16 } from "../../core/tensors/dtype.js";
import { type LocatedWeight, placeOf, type QuantizedBytes } from "./located_weight.js";

/** The array of bits of a type, and a value of it times a factor. */
interface Multiplied {
  readonly array: Float32ArrayConstructor | Uint16ArrayConstructor | Uint8ArrayConstructor;
  readonly times: (bits: number, factor: number) => number;
}

/** The types of floats, and of scales, that can be multiplied; those that only have powers of two, by such. */
const types: Readonly<Record<string, Multiplied>> = {
  f32: { array: Float32Array, times: (value, factor) => value * factor },
  f16: { array: Uint16Array, times: (bits, factor) => toF16(fromF16(bits) * factor) },
  bf16: { array: Uint16Array, times: (bits, factor) => toBF16(fromBF16(bits) * factor) },
  e8m0: {
    array: Uint8Array,
    times: (exponent, factor) => (exponent === 255 ? 255 : Math.min(254, Math.max(0, exponent + Math.log2(factor)))),
  },
};

/**
 * A weight times a factor, as it is read. With a power of two, floats and scales keep all bits but their exponents, unless these
 * would be out of their type's range; with others they are rounded.
 * @throws UNSUPPORTED_OPERATION for a format whose scales cannot be multiplied.
 */
export function scaledWeight(
  weight: LocatedWeight,
  factor: number,
): LocatedWeight & Required<Pick<LocatedWeight, "convert">> {
  const format = weightFormat(weight.format);
  const read = weight.convert ?? (([codes]: readonly Uint8Array[]): QuantizedBytes => ({ codes: codes as Uint8Array }));
  const fields = isPlain(format) ? [["codes", format.name] as const] : outerLevels(format);
  const known = Object.keys(types).filter((type) => type !== "e8m0" || Number.isInteger(Math.log2(factor)));
  for (const [, type] of fields) {
    if (known.includes(type)) continue;
    const problem = `expected scales of ${known.join(", ")} to multiply them by ${factor}`;
    throw new MoeError("UNSUPPORTED_OPERATION", `${placeOf(weight)}: ${problem}, got ${type} in ${format.name}`);
  }
  const convert = async (bytes: readonly Uint8Array[]): Promise<QuantizedBytes> => {
    const given = await read(bytes);
    const scaled = fields.map(([field, type]) => {
      return [field, multiplied(given[field] as ArrayBufferView, types[type] as Multiplied, factor)] as const;
    });
    return { ...given, ...Object.fromEntries(scaled) };
  };
  const { values } = weight;
  // It is not the same as another part of its tensors that has another factor.
  return {
    ...weight,
    name: `${weight.name} * ${factor}`,
    convert,
    ...(values && { values: async (bytes) => (await values(bytes)).map((value) => value * factor) }),
  };
}

/** What scales a format's values, and what its offsets are added up with these: the outer ones of two levels. */
function outerLevels(format: WeightFormat) {
  const { scales, superScales, zeros, superZeros } = levelsOf(format);
  const found = [
    superScales ? (["superScales", superScales.type] as const) : scales && (["scales", scales.type] as const),
    format.offset === "minimum" && !superZeros && zeros && (["zeros", zeros.type] as const),
    superZeros && (["superZeros", superZeros.type] as const),
  ];
  return found.filter((level) => level !== undefined && level !== false);
}

/** The bytes of values times a factor. */
function multiplied(values: ArrayBufferView, { array, times }: Multiplied, factor: number): Uint8Array {
  const { buffer, byteOffset, byteLength } = values;
  const { BYTES_PER_ELEMENT: size } = array;
  const aligned = byteOffset % size === 0 ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
  const bits = new array(aligned as ArrayBuffer, aligned === buffer ? byteOffset : 0, byteLength / size);
  const target = new array(bits.length);
  for (let index = 0; index < bits.length; index++) target[index] = times(bits[index] as number, factor);
  return new Uint8Array(target.buffer);
}
