import type { SafetensorsDType } from "../safetensors/dtype.js";
import { asBytes, packRows, words } from "./bits.js";
import { checkScales, floatsOf, groupsOf, placeIn } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix, type Suffix } from "./stored_matrix.js";

/** How many codes of so many bits HQQ puts in a byte, or for 3 bits in a word. */
const perElement: ReadonlyMap<number, number> = new Map([
  [8, 1],
  [4, 2],
  [3, 10],
  [2, 4],
  [1, 8],
]);

/**
 * HQQ along the columns (`axis` 1): groups of codes stand one after another, and an element of `W_q` has codes of groups that
 * are far apart: of as many runs of groups as it has codes, the first run in the highest bits. A weight is (code - zero) scale
 * with a zero that is a float; what it subtracts, their product, fits in float32 if both are halves.
 */
export const hqq: Scheme = {
  takes: (matrix) => matrix.has("W_q"),
  locate: async (matrix) => {
    const { rows, columns } = matrix;
    const axis = await numberIn(matrix, "axis", ["I32"]);
    const size = await numberIn(matrix, "group_size", ["I32"]);
    const named = await numberIn(matrix, "nbits", ["I32", "F32"]);
    const count = columns / size;
    if (axis !== 1 || !Number.isInteger(count)) {
      const got = axis === 1 ? `groups of ${size} in ${columns}` : `groups along the outputs (axis ${axis})`;
      throw matrix.error(`expected groups of columns that divide a row (axis 1), as formats have them, got ${got}`);
    }
    const { stored, bits } = bitsOf(matrix, named);
    const per = perElement.get(stored) as number;
    const total = rows * count;
    const step = Math.ceil(total / per);
    const codes = matrix.needOfAnyDType("W_q"); // which may be viewed as another dtype
    const width = stored === 3 ? 4 : 1;
    if (codes.info.byteLength !== step * size * width || (stored !== 3 && total % per !== 0)) {
      const expected = `${step * size * width} bytes for ${rows} x ${columns} codes of ${named} bits`;
      throw matrix.errorAt(codes, `expected ${expected}, got ${codes.info.byteLength}`);
    }
    const scales = matrix.need("scale", floats, [total, 1]);
    const zeros = matrix.need("zero", floats, [total, 1]);
    const groups = groupsOf(matrix, scales, count, true);
    const used = [codes, scales, zeros];
    return matrix.located(
      `a${bits}_${groups.name}_f32`,
      used,
      ([codeBytes, scaleBytes, zeroBytes]) => {
        const factors = floatsOf(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, count));
        const offsets = floatsOf(zeros, checkScales(matrix, zeros, zeroBytes as Uint8Array, count));
        const minima = offsets.map((zero, index) => zero * (factors[index] as number));
        const unpacked = unpackRuns(codeBytes as Uint8Array, total * size, step * size, stored);
        return {
          codes: packRows(checked(matrix, codes, unpacked, bits), rows, bits),
          scales: groups.spread(factors),
          zeros: asBytes(groups.spread(minima)),
        };
      },
      { ignored: ["axis", "group_size", "nbits"] },
    );
  },
};

/** The bits of stored codes and of the format's: 5 and 6 take a byte in the file, 1.58 and 1 two bits in memory. */
function bitsOf(matrix: StoredMatrix, named: number): { readonly stored: number; readonly bits: number } {
  if (named === 5 || named === 6) return { stored: 8, bits: named };
  if (Math.abs(named - 1.58) < 1e-3) return { stored: 2, bits: 2 };
  if (perElement.has(named)) return { stored: named, bits: Math.max(named, 2) };
  throw matrix.error(`expected codes of 1, 1.58, 2, 3, 4, 5, 6 or 8 bits, got nbits ${named}`);
}

/** Codes of so many runs of elements, the first run in the highest bits. */
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
