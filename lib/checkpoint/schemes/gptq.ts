import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { asBytes, cropRows, transpose, unpack, words } from "./bits.js";
import { inputOrder, reorderColumns } from "./input_order.js";
import { checkScales, groupsOf, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, type StoredMatrix } from "./stored_matrix.js";

/**
 * GPTQ: the transposed matrix [K, N], `qweight` packed along K, `qzeros` along N. Version 1 stores zero points less 1;
 * `checkpoint_format` tells the version. With act-order, `g_idx` has every column's group.
 */
export const gptq: Scheme = {
  takes: (matrix) => matrix.has("qweight") && !isAwqShape(matrix),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const { codes, bits } = codesOf(matrix);
    const scales = matrix.need("scales", floats);
    const groups = matrix.shapeOf(scales)[0] ?? 0;
    matrix.check(scales, floats, [groups, rows]);
    const zeros = matrix.need("qzeros", ["I32"], [groups, Math.ceil((rows * bits) / 32)]);
    const first = isFirstVersion(matrix, bits);
    const groupOf = groupsOfColumns(matrix);
    const of = groupsOf(matrix, scales, groups, true);
    const format = `u${bits}_${of.name}_${scaleType(scales)}`;
    const used = [codes, zeros, scales, ...(groupOf ? [groupOf] : [])];
    const convert = (bytes: readonly Uint8Array[]) => {
      const [codeBytes, zeroBytes, scaleBytes, groupBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
      const order = groupOf && inputOrder(matrix, groupOf, groupBytes, of.size);
      if (order && groupOf) checkOrdered(matrix, groupOf);
      const perRow = Math.ceil((columns * bits) / 32);
      const turned = asBytes(transpose(words(codeBytes), perRow, rows));
      const stored = cropRows(turned, rows, 4 * perRow, Math.ceil((columns * bits) / 8));
      const unpacked = unpackRows(zeroBytes, groups, rows, bits);
      if (first) addOne(matrix, zeros, unpacked, bits);
      checkScales(matrix, scales, scaleBytes, rows);
      return {
        codes: order ? reorderColumns(stored, rows, columns, bits, order) : stored,
        scales: of.spread(transpose(scaleElements(scales, scaleBytes), groups, rows)),
        zeros: of.spread(transpose(unpacked, groups, rows)),
        ...(order && { inputOrder: order }),
      };
    };
    matrix.checkStated(bits, groups);
    return matrix.located(format, used, convert, { changesInputs: groupOf !== undefined && !isSorted(matrix) });
  },
};

/** Whether `qweight` is packed along the outputs, as AWQ does: [K, N / 8]. GPTQ has fewer than K rows. */
export function isAwqShape(matrix: StoredMatrix): boolean {
  const codes = matrix.find("qweight");
  return codes !== undefined && matrix.hasShape(codes, [matrix.columns, matrix.rows / 8]);
}

function codesOf(matrix: StoredMatrix): { readonly codes: FoundTensor; readonly bits: number } {
  const { rows, columns, quantization } = matrix;
  const shapeOf = (bits: number) => [Math.ceil((columns * bits) / 32), rows];
  const found = matrix.find("qweight") as FoundTensor;
  const possible = [2, 3, 4, 8].filter((bits) => matrix.hasShape(found, shapeOf(bits)));
  const named = quantization.fields?.value("bits");
  const bits = possible.find((one) => one === named) ?? possible[0];
  if (bits === undefined) matrix.check(found, ["I32"], ...[2, 3, 4, 8].map(shapeOf));
  return { codes: matrix.check(found, ["I32"]), bits: bits as number };
}

/**
 * AutoRound's `packing_format` tells whether it wrote what AutoGPTQ reads, or zero points as they are; `backend` did so before
 * April 2025. GPTQModel's `gptq_p` is version 2 but for 3 bits, which it splits.
 */
function isFirstVersion({ quantization }: StoredMatrix, bits: number): boolean {
  if (quantization.method === "auto-round") {
    const backend = quantization.word("backend");
    const packing = quantization.word("packing_format") ?? (backend?.includes(":") ? backend : undefined);
    if (packing !== undefined) return /(^|:)(auto_)?gptq(:|$)/.test(packing);
  }
  const version = quantization.word("checkpoint_format") ?? quantization.word("format") ?? "gptq";
  const splits = version === "gptq_p" && bits === 3;
  if (!splits && ["gptq", "gptq_v2", "gptq_p"].includes(version)) return version === "gptq";
  const got = `${describe(version)}${splits ? " with 3 bits" : ""}`;
  const problem = `checkpoint_format: expected "gptq", "gptq_v2" or, except with 3 bits, "gptq_p", got ${got}`;
  throw badCheckpoint(quantization.fields?.path ?? "", problem);
}

function groupsOfColumns(matrix: StoredMatrix): FoundTensor | undefined {
  const ordered = matrix.quantization.fields?.value("desc_act") === true;
  return matrix.has("g_idx") || ordered ? matrix.need("g_idx", ["I32"], [matrix.columns]) : undefined;
}

/** Whether the configuration says that groups stand one after another, as most checkpoints with a g_idx have them. */
function isSorted({ quantization }: StoredMatrix): boolean {
  const ordered = [quantization.fields?.value("desc_act"), ...quantization.overrides.map(({ desc_act }) => desc_act)];
  return ordered.includes(false) && !ordered.includes(true);
}

function checkOrdered(matrix: StoredMatrix, groupOf: FoundTensor): void {
  if (!isSorted(matrix)) return;
  throw matrix.errorAt(groupOf, "expected the groups one after another, as desc_act is false, got another order");
}

/** Rows of packed numbers, each row in whole words. */
function unpackRows(bytes: Uint8Array, rows: number, columns: number, bits: number): Uint8Array {
  const packed = words(bytes);
  const perRow = packed.length / rows;
  const target = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    target.set(unpack(packed.subarray(row * perRow, (row + 1) * perRow), columns, bits), row * columns);
  }
  return target;
}

/** Readers of version 1 disagree on what the largest stored number means: zero, or one more. */
function addOne(matrix: StoredMatrix, tensor: FoundTensor, zeros: Uint8Array, bits: number): void {
  const largest = (1 << bits) - 1;
  for (let index = 0; index < zeros.length; index++) {
    if (zeros[index] === largest) {
      const place = `[${Math.floor(index / matrix.rows)}, ${index % matrix.rows}]`;
      throw matrix.errorAt(
        tensor,
        `expected zero points from 0 to ${largest - 1} in checkpoint_format "gptq", got ${largest} at ${place}, which ` +
          'readers understand in different ways; convert the checkpoint to "gptq_v2"',
      );
    }
    zeros[index] = (zeros[index] as number) + 1;
  }
}
