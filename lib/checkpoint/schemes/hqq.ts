import type { LocatedWeight } from "../locate/located_weight.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import { asBytes, packRows, words } from "./bits.js";
import { checkScales, floatsOf, groupsOf, placeIn } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix, type Suffix } from "./stored_matrix.js";

/** How many codes HQQ puts in a byte, or of 3 bits in a word, by their bits. */
const perElement: ReadonlyMap<number, number> = new Map([
  [8, 1],
  [4, 2],
  [3, 10],
  [2, 4],
  [1, 8],
]);

/** What HQQ stores of a matrix: a grid of codes, each line of which is a group if `axis` is 1, and each column if it is 0. */
interface Grid {
  readonly axis: number;
  readonly lines: number;
  readonly width: number;
  /** Bits of a stored code. */
  readonly stored: number;
  /** Bits of a code in the format. */
  readonly bits: number;
  readonly codes: FoundTensor;
  readonly scales: FoundTensor;
  readonly zeros: FoundTensor;
}

/**
 * HQQ: an element of `W_q` has codes of lines of the grid that are far apart: of as many runs of lines as it has codes, the
 * first run in the highest bits. A weight is (code - zero) scale with a zero that is a float.
 */
export const hqq: Scheme = {
  takes: (matrix) => matrix.has("W_q"),
  locate: async (matrix) => {
    const grid = await gridOf(matrix);
    return grid.axis === 1 ? alongColumns(matrix, grid) : acrossRows(matrix, grid);
  },
};

/** What such a group subtracts, zero times scale, fits in float32 if both are halves. */
function alongColumns(matrix: StoredMatrix, grid: Grid): LocatedWeight {
  const { rows } = matrix;
  const { lines, bits, codes, scales } = grid;
  const count = lines / rows;
  const groups = groupsOf(matrix, scales, count, true);
  return located(matrix, `a${bits}_${groups.name}_f32`, grid, (bytes) => {
    const { factors, offsets, unpacked } = read(matrix, grid, bytes, count);
    const minima = offsets.map((zero, index) => zero * (factors[index] as number));
    return {
      codes: packRows(checked(matrix, codes, unpacked, bits), rows, bits),
      scales: groups.spread(factors),
      zeros: asBytes(groups.spread(minima)),
    };
  });
}

/** Every weight of a row has a scale of its own, which no format expresses: the weights are floats. */
function acrossRows(matrix: StoredMatrix, grid: Grid): LocatedWeight {
  const { width, bits, codes } = grid;
  return located(matrix, "f32", grid, (bytes) => {
    const { factors, offsets, unpacked } = read(matrix, grid, bytes, width);
    const weights = Float32Array.from(checked(matrix, codes, unpacked, bits), (code, index) => {
      const group = index % width;
      return (code - (offsets[group] as number)) * (factors[group] as number);
    });
    return { codes: asBytes(weights) };
  });
}

function located(matrix: StoredMatrix, format: string, grid: Grid, convert: LocatedWeight["convert"]): LocatedWeight {
  const { codes, scales, zeros } = grid;
  return matrix.located(format, [codes, scales, zeros], convert, { ignored: ["axis", "group_size", "nbits"] });
}

/** The scales, zeros and codes, a byte each. @param width groups in a line of scales, for errors. */
function read(matrix: StoredMatrix, grid: Grid, bytes: readonly Uint8Array[], width: number) {
  const [codeBytes, scaleBytes, zeroBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
  const numbers = (tensor: FoundTensor, own: Uint8Array) => floatsOf(tensor, checkScales(matrix, tensor, own, width));
  const run = Math.ceil(grid.lines / (perElement.get(grid.stored) as number)) * grid.width;
  return {
    factors: numbers(grid.scales, scaleBytes),
    offsets: numbers(grid.zeros, zeroBytes),
    unpacked: unpackRuns(codeBytes, grid.lines * grid.width, run, grid.stored),
  };
}

/** @throws BAD_CHECKPOINT for tensors of other dtypes and shapes than those that the numbers beside them tell. */
async function gridOf(matrix: StoredMatrix): Promise<Grid> {
  const { rows, columns } = matrix;
  const axis = await numberIn(matrix, "axis", ["I32"]);
  const size = await numberIn(matrix, "group_size", ["I32"]);
  const named = await numberIn(matrix, "nbits", ["I32", "F32"]);
  if (axis !== 0 && axis !== 1) throw matrix.error(`expected groups along axis 0 or 1, got axis ${axis}`);
  const total = (rows * columns) / size;
  if (!Number.isInteger(axis === 1 ? columns / size : total)) {
    const expected = axis === 1 ? "of columns that divide a row" : "that divide the matrix";
    throw matrix.error(`expected groups ${expected} (axis ${axis}), got groups of ${size} in ${rows} x ${columns}`);
  }
  const { stored, bits } = bitsOf(matrix, named);
  const per = perElement.get(stored) as number;
  const [lines, width] = axis === 1 ? [total, size] : [size, total];
  const codes = matrix.needOfAnyDType("W_q"); // which may be viewed as another dtype
  const byteLength = Math.ceil(lines / per) * width * (stored === 3 ? 4 : 1);
  if (codes.info.byteLength !== byteLength || (stored !== 3 && lines % per !== 0)) {
    const expected = `${byteLength} bytes for ${rows} x ${columns} codes of ${named} bits`;
    throw matrix.errorAt(codes, `expected ${expected}, got ${codes.info.byteLength}`);
  }
  const shape = axis === 1 ? [total, 1] : [1, total];
  const scales = matrix.need("scale", floats, shape);
  const zeros = matrix.need("zero", floats, shape);
  matrix.checkStated(Math.abs(named - 1.58) < 1e-3 ? 1.58 : named, Math.ceil(columns / size));
  return { axis, lines, width, stored, bits, codes, scales, zeros };
}

/** The bits of stored codes and of the format's: 5 and 6 take a byte in the file, 1.58 and 1 two bits in memory. */
function bitsOf(matrix: StoredMatrix, named: number): { readonly stored: number; readonly bits: number } {
  if (named === 5 || named === 6) return { stored: 8, bits: named };
  if (Math.abs(named - 1.58) < 1e-3) return { stored: 2, bits: 2 };
  if (perElement.has(named)) return { stored: named, bits: Math.max(named, 2) };
  throw matrix.error(`expected codes of 1, 1.58, 2, 3, 4, 5, 6 or 8 bits, got nbits ${named}`);
}

/** The codes of runs of elements, the first run in the highest bits. */
function unpackRuns(bytes: Uint8Array, count: number, run: number, bits: number): Uint8Array {
  const per = perElement.get(bits) as number;
  const elements = bits === 3 ? words(bytes) : bytes;
  if (per === 1) return elements as Uint8Array;
  const target = new Uint8Array(count);
  const mask = (1 << bits) - 1;
  for (let place = 0; place < per; place++) {
    const shift = bits * (per - 1 - place);
    const start = place * run;
    const length = Math.min(run, count - start);
    for (let index = 0; index < length; index++) target[start + index] = ((elements[index] as number) >>> shift) & mask;
  }
  return target;
}

/** @throws BAD_CHECKPOINT for a code of more bits than the others, where each has a byte. */
function checked(matrix: StoredMatrix, tensor: FoundTensor, codes: Uint8Array, bits: number): Uint8Array {
  const at = bits < 8 ? codes.findIndex((code) => code >> bits !== 0) : -1;
  if (at < 0) return codes;
  throw matrix.errorAt(tensor, `expected codes of ${bits} bits, got ${codes[at]} at ${placeIn(at, matrix.columns)}`);
}

/** The number that a tensor holds. */
async function numberIn(matrix: StoredMatrix, suffix: Suffix, dtypes: readonly SafetensorsDType[]): Promise<number> {
  const tensor = matrix.need(suffix, dtypes, []);
  const view = new DataView((await matrix.read(tensor)).buffer);
  return tensor.info.dtype === "I32" ? view.getInt32(0, true) : view.getFloat32(0, true);
}
