import { badCheckpoint } from "../bad_checkpoint.js";
import type { LocatedWeight } from "../located_weight.js";
import { repeated } from "./bits.js";
import { checkE4M3, checkScales, floats, scalarShapes, scaleElements, scaleType, spreadGroups } from "./scales.js";
import type { Scheme } from "./scheme.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/** The only block that formats have. */
const block = 128;

/**
 * `weight` in e4m3 [N, K], times the scales: for blocks of 128 x 128 (DeepSeek-V3, whose `weight_scale_inv` is multiplied
 * in spite of its name), for rows, for the whole matrix, or e8m0 for every 32 columns (mxfp8). Names differ; shapes
 * tell, and where the configuration names the block size, that does: scales of blocks may look like others.
 */
export const fp8: Scheme = {
  takes: (matrix) => matrix.has("weight", "F8_E4M3"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["F8_E4M3"], [rows, columns]);
    const scales = scalesOf(matrix);
    const located = (groups: string, width: number, copies = 1): LocatedWeight =>
      matrix.located(`e4m3_${groups}_${scaleType(scales)}`, [codes, scales], ([codeBytes, scaleBytes]) => ({
        codes: checkE4M3(matrix, codes, codeBytes as Uint8Array),
        scales: repeated(checkScales(matrix, scales, scaleBytes as Uint8Array, width), copies),
      }));
    if (scales.info.dtype === "U8") {
      if (columns % 32 !== 0) throw matrix.error(`expected columns in groups of 32, got ${columns}`);
      matrix.check(scales, ["U8"], [rows, columns / 32]);
      return located("g32", columns / 32);
    }
    const inBlocks = [Math.ceil(rows / block), Math.ceil(columns / block)] as const;
    switch (kindOf(matrix, scales, inBlocks)) {
      case "blocks":
        return isCut(matrix) ? perRow(matrix, codes, scales) : located("b128", inBlocks[1]);
      case "rows":
        return located("channel", 1);
      case "matrix":
        return located("channel", 1, rows);
      default:
        return located("g32", columns / 32);
    }
  },
};

/** Whether blocks would be in two matrices, or in two of the pieces in which the layer stores one. */
function isCut(matrix: StoredMatrix): boolean {
  return matrix.cutsRows(block) || matrix.uncutGroup(block) !== block;
}

/** Blocks that are cut: each row gets scales of its own. */
function perRow(matrix: StoredMatrix, codes: FoundTensor, scales: FoundTensor): LocatedWeight {
  const { rows, columns } = matrix;
  const width = Math.ceil(columns / block);
  const group = matrix.uncutGroup(block);
  if (group % 16 !== 0) throw matrix.error(`expected pieces of a multiple of 16 columns, got ${matrix.pieceColumns}`);
  return matrix.located(`e4m3_g${group}_${scaleType(scales)}`, [codes, scales], ([codeBytes, scaleBytes]) => {
    const given = scaleElements(scales, checkScales(matrix, scales, scaleBytes as Uint8Array, width));
    const ofRows = new (given.constructor as new (length: number) => typeof given)(rows * width);
    for (let row = 0; row < rows; row++) {
      const start = Math.floor(row / block) * width;
      ofRows.set(given.subarray(start, start + width), row * width);
    }
    return {
      codes: checkE4M3(matrix, codes, codeBytes as Uint8Array),
      scales: spreadGroups(ofRows, width, columns, block, group),
    };
  });
}

function scalesOf(matrix: StoredMatrix): FoundTensor {
  const name = (["weight_scale_inv", "weight_scale", "scale"] as const).find((suffix) => matrix.has(suffix));
  return matrix.need(name ?? "weight_scale", [...floats, "F8_E8M0", "U8"]);
}

function kindOf(
  matrix: StoredMatrix,
  scales: FoundTensor,
  inBlocks: readonly [number, number],
): "blocks" | "rows" | "matrix" | "groups" {
  const { rows, columns, quantization } = matrix;
  const declared = quantization.blockSize;
  if (declared?.some((size) => size !== block)) {
    throw badCheckpoint(
      quantization.fields?.path ?? "",
      `expected blocks of ${block} x ${block} weights, got ${declared.join(" x ")}`,
    );
  }
  if (declared !== undefined && (matrix.hasShape(scales, inBlocks) || !quantization.hasRowScales)) {
    matrix.check(scales, [scales.info.dtype], inBlocks);
    return "blocks";
  }
  const has = (...shape: readonly number[]) => matrix.hasShape(scales, shape);
  if (has(rows) || has(rows, 1)) return "rows";
  if (scalarShapes.some((shape) => has(...shape))) return "matrix";
  if (has(...inBlocks)) return "blocks";
  if (columns % 32 === 0 && has(rows, columns / 32)) return "groups";
  matrix.check(scales, [scales.info.dtype], inBlocks, [rows], [rows, 1], [1]);
  return "blocks";
}
