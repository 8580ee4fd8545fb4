import type { ScaleLevel } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import type { LocatedWeight } from "../locate/located_weight.js";
import type { Elements } from "./bits.js";
import { checkE4M3, checkScales, groupCount, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix } from "./stored_matrix.js";

/** Columns that share a scale in the modes without biases, and the format, by the bits of a code. */
const floatModes: ReadonlyMap<string, string> = new Map([
  ["4 bits in groups of 32", "mxfp4"],
  ["8 bits in groups of 32", "e4m3_g32_e8m0"],
  ["4 bits in groups of 16", "e2m1_g16_e4m3"],
]);

/**
 * Files of MLX: each row is a stream of codes in 32-bit words. Mode `affine` has a scale for each group of columns and a
 * bias, which is added after scaling; the others are mxfp4, mxfp8 and nvfp4 without a scale of the scales.
 */
export const mlx: Scheme = {
  takes: (matrix) => matrix.has("weight", "U32") && matrix.has("scales"),
  locate: (matrix) => (matrix.has("biases") ? affine(matrix) : floatMode(matrix)),
};

function affine(matrix: StoredMatrix): LocatedWeight {
  const [codes, bits] = codesOf(matrix, [2, 3, 4, 5, 6, 8]);
  const scales = matrix.need("scales", floats);
  const count = groupCount(matrix, scales);
  const biases = matrix.need("biases", [scales.info.dtype], [matrix.rows, count]);
  const groups = groupsOf(matrix, scales, count, true);
  const numbers = (tensor: FoundTensor, bytes: Uint8Array) =>
    groups.spread(scaleElements(tensor, checkScales(matrix, tensor, bytes, count)));
  const convert = ([codeBytes, scaleBytes, biasBytes]: readonly Uint8Array[]) => {
    const zeros = numbers(biases, biasBytes as Uint8Array);
    changeSigns(zeros);
    return { codes: codeBytes as Uint8Array, scales: numbers(scales, scaleBytes as Uint8Array), zeros };
  };
  matrix.checkStated(bits, count);
  return matrix.located(`a${bits}_${groups.name}_${scaleType(scales)}`, [codes, scales, biases], convert);
}

function floatMode(matrix: StoredMatrix): LocatedWeight {
  const { rows, columns } = matrix;
  const [codes, bits] = codesOf(matrix, [4, 8]);
  const scales = matrix.need("scales", ["U8"]);
  const count = groupCount(matrix, scales);
  const mode = `${bits} bits in groups of ${columns / count}`;
  const format = floatModes.get(mode);
  if (format === undefined) {
    throw matrix.errorAt(
      scales,
      `expected ${[...floatModes.keys()].join(", ")} where there are no biases, got ${mode}`,
    );
  }
  matrix.check(scales, ["U8"], [rows, count]);
  matrix.checkStated(bits, count);
  const { type } = weightFormat(format).scales as ScaleLevel;
  return matrix.located(format, [codes, scales], ([codeBytes, scaleBytes]) => ({
    codes: bits === 8 ? checkE4M3(matrix, codes, codeBytes as Uint8Array) : (codeBytes as Uint8Array),
    scales: checkScales(matrix, scales, scaleBytes as Uint8Array, count, type),
  }));
}

/** The tensor of codes, and the bits of each. @throws BAD_CHECKPOINT unless these are some of `possible`. */
function codesOf(matrix: StoredMatrix, possible: readonly number[]): readonly [FoundTensor, number] {
  const { rows, columns } = matrix;
  const shapes = possible.map((bits) => [rows, (columns * bits) / 32] as const);
  const codes = matrix.need("weight", ["U32"], ...shapes.filter(([, words]) => Number.isInteger(words)));
  const index = shapes.findIndex((shape) => matrix.hasShape(codes, shape));
  return [codes, possible[index] as number];
}

/** Gives floats the other sign: MLX adds what formats subtract. */
export function changeSigns(values: Elements): void {
  const sign = 2 ** (8 * values.BYTES_PER_ELEMENT - 1);
  for (let index = 0; index < values.length; index++) values[index] = ((values[index] as number) ^ sign) >>> 0;
}
