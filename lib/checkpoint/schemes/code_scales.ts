import { badCheckpoint } from "../bad_checkpoint.js";
import { type Elements, zerosLike } from "./bits.js";
import { groupCount, groupsOf, isNumber, ofEachRow, spreadGroups } from "./scales.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/** The only block that formats have. */
const block = 128;

/** The scales of codes of eight bits, and how a format has them. */
export interface CodeScales {
  /** How a format calls what shares a scale. */
  readonly name: string;
  /** Scales of a row, or of a row of blocks, in the files. */
  readonly width: number;
  /** Columns that share one in the files, if they are of one row only. */
  readonly columns?: number;
  /** The values of the files, of scales or what else is as many, as the format has them. */
  spread<T extends Elements>(values: T): T;
}

/**
 * What the scales of codes [N, K] are for: blocks of 128 x 128, rows, the whole matrix, or groups of columns. Names differ;
 * shapes tell, and where the configuration names the block size, that does: scales of blocks may look like others.
 * @throws BAD_CHECKPOINT for other shapes.
 */
export function codeScales(matrix: StoredMatrix, scales: FoundTensor, hasZeros = false): CodeScales {
  const { rows } = matrix;
  const has = (...shape: readonly number[]) => matrix.hasShape(scales, shape);
  if (hasDeclaredBlocks(matrix, scales)) return blockScales(matrix, scales);
  if (has(rows) || has(rows, 1)) return rowScales(matrix, scales, 1, hasZeros);
  if (isNumber(matrix, scales)) {
    const { spread, ...ofRows } = rowScales(matrix, scales, 1, hasZeros);
    return { ...ofRows, spread: (values) => spread(ofEachRow(values, rows)) };
  }
  if (hasBlocks(matrix, scales)) return blockScales(matrix, scales);
  const shape = matrix.shapeOf(scales);
  if (shape.length !== 2 || shape[0] !== rows) {
    matrix.check(scales, [scales.info.dtype], ...blocksOf(matrix), [rows], [rows, 1], [1]);
  }
  const count = groupCount(matrix, scales);
  matrix.check(scales, [scales.info.dtype], [rows, count]);
  return rowScales(matrix, scales, count, hasZeros);
}

/** So many scales for each row. */
function rowScales(matrix: StoredMatrix, scales: FoundTensor, count: number, hasZeros: boolean): CodeScales {
  const { name, size, spread } = groupsOf(matrix, scales, count, hasZeros);
  return { name, width: count, columns: size, spread };
}

/** How many blocks there are. A pair of matrices may have been quantised one by one, so that no block has rows of both. */
function blocksOf({ rows, columns, isPair }: StoredMatrix): readonly (readonly [number, number])[] {
  const across = Math.ceil(columns / block);
  const [whole, halves] = [Math.ceil(rows / block), 2 * Math.ceil(rows / 2 / block)];
  return isPair && halves !== whole
    ? [
        [whole, across],
        [halves, across],
      ]
    : [[whole, across]];
}

/** Whether there is a scale for each block; ModelOpt's have sizes of 1 between. */
function hasBlocks(matrix: StoredMatrix, scales: FoundTensor): boolean {
  return blocksOf(matrix).some((blocks) => hasBlockShape(matrix, scales, blocks));
}

function hasBlockShape(matrix: StoredMatrix, scales: FoundTensor, [down, across]: readonly [number, number]): boolean {
  return matrix.hasShape(scales, [down, across]) || matrix.hasShape(scales, [down, 1, across, 1]);
}

function hasDeclaredBlocks(matrix: StoredMatrix, scales: FoundTensor): boolean {
  const { quantization } = matrix;
  const declared = quantization.blockSize;
  if (declared === undefined) return false;
  if (declared.some((size) => size !== block)) {
    throw badCheckpoint(
      quantization.fields?.path ?? "",
      `expected blocks of ${block} x ${block} weights, got ${declared.join(" x ")}`,
    );
  }
  if (hasBlocks(matrix, scales)) return true;
  if (!quantization.hasOtherScales) matrix.check(scales, [scales.info.dtype], ...blocksOf(matrix));
  return false;
}

/** Blocks, or where they would be in two matrices or in two of the pieces in which the layer stores one, rows' groups. */
function blockScales(matrix: StoredMatrix, scales: FoundTensor): CodeScales {
  const { rows, columns } = matrix;
  const [whole] = blocksOf(matrix) as [readonly [number, number]];
  const part = hasBlockShape(matrix, scales, whole) ? rows : rows / 2;
  const width = Math.ceil(columns / block);
  const group = matrix.uncutGroup(block);
  if (!matrix.cutsRows(block) && group === block) return { name: "b128", width, spread: (values) => values };
  if (group % 16 !== 0) throw matrix.error(`expected pieces of a multiple of 16 columns, got ${matrix.pieceColumns}`);
  return {
    name: `g${group}`,
    width,
    spread: <T extends Elements>(values: T) => {
      const ofRows = zerosLike(values, rows * width);
      for (let row = 0; row < rows; row++) {
        const before = Math.floor(row / part) * Math.ceil(part / block);
        const start = (before + Math.floor((row % part) / block)) * width;
        ofRows.set(values.subarray(start, start + width), row * width);
      }
      return spreadGroups(ofRows, width, columns, block, group);
    },
  };
}
