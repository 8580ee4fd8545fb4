import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { asBytes, flipHighestBits, packRows, transpose } from "./bits.js";
import { checkScales, floatsOf, groupCount, groupsOf, placeIn, scaleElements, scaleType } from "./scales.js";
import type { Scheme } from "./scheme.js";
import { type FoundTensor, floats, partNames, type StoredMatrix, type Suffix } from "./stored_matrix.js";

// torchao takes a weight apart into tensors, and says in the file's metadata of which of its classes the weight was.

/** The classes whose parts have the order of rows and columns. */
const readClasses = [
  // Parts as other schemes have them.
  "Float8Tensor",
  "Int8Tensor",
  "MXTensor",
  "NVFP4Tensor",
  // Those of this file.
  "Int4Tensor",
  "IntxUnpackedToInt8Tensor",
] as const;

/** Why others are not read. */
const kernelClasses: ReadonlyMap<unknown, string> = new Map([
  ["Int4TilePackedTo4dTensor", "its codes are in the tiles of a kernel for CUDA"],
  ["Int4PlainInt32Tensor", "its codes are in the order of a kernel for XPUs or NPUs"],
  ["Int4OpaqueTensor", "its codes are in the order of a kernel for CPUs"],
]);

/** Parts for the quantisation of activations, which nothing here does. */
const partsOfActivations: readonly unknown[] = ["act_quant_scale", "act_quant_zero_point", "act_per_tensor_scale"];

const suffixOfPart: ReadonlyMap<unknown, Suffix> = new Map(
  Object.entries(partNames).map(([suffix, part]) => [part, suffix as Suffix]),
);

/**
 * Checks a matrix whose tensors have the names of torchao's parts.
 * @throws BAD_CHECKPOINT if the metadata do not say what it is, if it is made for one kernel, or if a part is missing.
 */
export function checkParts(matrix: StoredMatrix): void {
  if (!matrix.isInParts) return;
  const fields = matrix.description;
  const name = fields.value("_type");
  if (!(readClasses as readonly unknown[]).includes(name)) {
    const reason = kernelClasses.get(name);
    const got = `${describe(name)}${reason === undefined ? "" : `, which is not read: ${reason}`}`;
    throw badCheckpoint(fields.path, `_type: expected one of ${readClasses.join(", ")}, got ${got}`);
  }
  const attributes = fields.section("_data");
  for (const swizzled of ["is_swizzled_scales", "_is_swizzled_scales"]) attributes?.require(swizzled, false);
  const parts = fields.value("_tensor_data_names");
  if (!Array.isArray(parts)) {
    throw badCheckpoint(fields.path, `_tensor_data_names: expected a list of parts, got ${describe(parts)}`);
  }
  for (const part of parts) {
    const suffix = suffixOfPart.get(part);
    if (suffix !== undefined) matrix.needOfAnyDType(suffix);
    else if (!partsOfActivations.includes(part)) {
      const known = [...suffixOfPart.keys(), ...partsOfActivations].join(", ");
      throw badCheckpoint(fields.path, `_tensor_data_names: expected some of ${known}, got ${describe(part)}`);
    }
  }
}

/** Four bits: codes in two's complement, two a byte, and [K / group, N] of scales and of what is added after scaling. */
export const int4Parts: Scheme = {
  takes: (matrix) => isOfClass(matrix, "Int4Tensor"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const codes = matrix.need("weight", ["I8", "U8"], [rows, columns / 2]);
    const scales = matrix.need("weight_scale", floats);
    const count = matrix.shapeOf(scales)[0] ?? 0;
    matrix.check(scales, floats, [count, rows]);
    const added = matrix.need("weight_zero_point", floats, [count, rows]);
    const groups = groupsOf(matrix, scales, count, true);
    const numbers = (tensor: FoundTensor, bytes: Uint8Array) =>
      transpose(floatsOf(tensor, checkScales(matrix, tensor, bytes, rows)), count, rows);
    matrix.checkStated(4, count);
    return matrix.located(`a4_${groups.name}_f32`, [codes, scales, added], (bytes) => {
      const [codeBytes, scaleBytes, addedBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      flipHighestBits(codeBytes, rows, columns, 4);
      const factors = numbers(scales, scaleBytes);
      const sums = numbers(added, addedBytes);
      // Formats have unsigned codes, 8 more, and subtract.
      const minima = factors.map((factor, index) => 8 * factor - (sums[index] as number));
      return { codes: codeBytes, scales: groups.spread(factors), zeros: asBytes(groups.spread(minima)) };
    });
  },
};

/** Codes of 1 to 8 bits with a byte each, and a scale and a zero point for each row or group of columns. */
export const byteIntegers: Scheme = {
  takes: (matrix) => isOfClass(matrix, "IntxUnpackedToInt8Tensor"),
  locate: (matrix) => {
    const { rows, columns } = matrix;
    const named = bitsOf(matrix);
    const bits = named === 1 || named === 7 ? named + 1 : named;
    const codes = matrix.need("weight", ["I8"], [rows, columns]);
    const scales = matrix.need("weight_scale", floats);
    const count = groupCount(matrix, scales);
    matrix.check(scales, floats, [rows, count]);
    const zeros = matrix.need("weight_zero_point", ["I8"], [rows, count]);
    const groups = groupsOf(matrix, scales, count, true);
    const unsigned = (tensor: FoundTensor, bytes: Uint8Array, width: number) => {
      const half = 2 ** (named - 1);
      return bytes.map((byte, index) => {
        const code = (byte << 24) >> 24;
        if (code >= -half && code < half) return code + 2 ** (bits - 1);
        const problem = `expected integers of ${named} bits, got ${code} at ${placeIn(index, width)}`;
        throw matrix.errorAt(tensor, problem);
      });
    };
    matrix.checkStated(named, count);
    return matrix.located(`u${bits}_${groups.name}_${scaleType(scales)}`, [codes, scales, zeros], (bytes) => {
      const [codeBytes, scaleBytes, zeroBytes] = bytes as [Uint8Array, Uint8Array, Uint8Array];
      return {
        codes: packRows(unsigned(codes, codeBytes, columns), rows, bits),
        scales: groups.spread(scaleElements(scales, checkScales(matrix, scales, scaleBytes, count))),
        zeros: groups.spread(unsigned(zeros, zeroBytes, count)),
      };
    });
  },
};

function isOfClass(matrix: StoredMatrix, name: (typeof readClasses)[number]): boolean {
  return matrix.isInParts && matrix.description.value("_type") === name;
}

/** The bits of `target_dtype`. */
function bitsOf(matrix: StoredMatrix): number {
  const { path } = matrix.description;
  const dtype = matrix.description.section("_data")?.section("target_dtype");
  const names = Array.from({ length: 8 }, (_, index) => [`int${index + 1}`, index + 1] as const);
  if (dtype !== undefined) return dtype.choice("_data", undefined, new Map(names));
  throw badCheckpoint(path, "_data: target_dtype: expected the dtype of the codes, got no such field");
}
