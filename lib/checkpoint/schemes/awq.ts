import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { asBytes, transpose, words } from "./bits.js";
import { isAwqShape } from "./gptq.js";
import { checkScales, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { floats, type StoredMatrix } from "./stored_matrix.js";

/** The bit at which a word has each of its eight columns. */
const shifts = [0, 16, 4, 20, 8, 24, 12, 28] as const;

/** AWQ ("gemm"): the transposed matrix [K, N] in four bits, eight outputs a word, with zero points as they are. */
export const awq: Scheme = {
  takes: (matrix) => matrix.has("qweight") && isAwqShape(matrix),
  locate: (matrix) => {
    checkVersion(matrix);
    const { rows, columns } = matrix;
    const codes = matrix.need("qweight", ["I32"], [columns, rows / 8]);
    const scales = matrix.need("scales", floats);
    const groups = matrix.shapeOf(scales)[0] ?? 0;
    matrix.check(scales, floats, [groups, rows]);
    const zeros = matrix.need("qzeros", ["I32"], [groups, rows / 8]);
    if (columns % 8 !== 0) throw matrix.error(`expected a multiple of 8 columns, got ${columns}`);
    const of = groupsOf(matrix, scales, groups, true);
    const format = `u4_${of.name}_${scaleType(scales)}`;
    matrix.checkStated(4, groups);
    return matrix.located(format, [codes, zeros, scales], (bytes) => {
      const [codeBytes, zeroBytes, scaleBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      checkScales(matrix, scales, scaleBytes, rows);
      return {
        codes: turnCodes(words(codeBytes), columns, rows),
        scales: of.spread(transpose(scaleElements(scales, scaleBytes), groups, rows)),
        zeros: of.spread(turnZeros(words(zeroBytes), groups, rows)),
      };
    });
  },
};

/** AutoAWQ calls the layout `version`, GPTQModel `checkpoint_format` or `format`. */
function checkVersion({ quantization }: StoredMatrix): void {
  const field = ["version", "checkpoint_format", "format"].find((name) => quantization.fields?.has(name));
  const version = field === undefined ? "gemm" : quantization.word(field);
  if (version === "gemm") return;
  throw badCheckpoint(quantization.fields?.path ?? "", `${field}: expected "gemm", got ${describe(version)}`);
}

/** Words of [K, N / 8] as the bytes of rows [N, K / 2], eight by eight codes at a time. */
function turnCodes(packed: Uint32Array, columns: number, rows: number): Uint8Array {
  const [across, stride] = [rows / 8, columns / 8];
  const target = new Uint32Array(packed.length);
  for (let eight = 0; eight < stride; eight++) {
    for (let word = 0; word < across; word++) {
      for (let output = 0; output < 8; output++) {
        const shift = shifts[output] as number;
        let turned = 0;
        for (let step = 0; step < 8; step++) {
          const code = ((packed[(8 * eight + step) * across + word] as number) >>> shift) & 15;
          turned |= code << (4 * step);
        }
        target[(8 * word + output) * stride + eight] = turned;
      }
    }
  }
  return asBytes(target);
}

function turnZeros(packed: Uint32Array, groups: number, rows: number): Uint8Array {
  const zeros = new Uint8Array(rows * groups);
  for (let group = 0; group < groups; group++) {
    for (let row = 0; row < rows; row++) {
      const word = packed[group * (rows / 8) + (row >> 3)] as number;
      zeros[row * groups + group] = (word >>> (shifts[row & 7] as number)) & 15;
    }
  }
  return zeros;
}
