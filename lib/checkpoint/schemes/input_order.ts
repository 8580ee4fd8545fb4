import { putCode } from "./bits.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/**
 * The order of the columns that makes each group consecutive, given every column's group (`g_idx`, act-order): the
 * column that each stored one is. Undefined if the columns stand in this order.
 * @throws BAD_CHECKPOINT unless every group has `size` columns; the last one has those that are left.
 */
export function inputOrder(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  bytes: Uint8Array,
  size: number,
): Int32Array | undefined {
  const groupOf = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const groups = Math.ceil(groupOf.length / size);
  const sizeOf = (group: number) => Math.min(size, groupOf.length - group * size);
  const order = new Int32Array(groupOf.length);
  const filled = new Int32Array(groups);
  let sorted = true;
  for (let column = 0; column < groupOf.length; column++) {
    const group = groupOf[column] as number;
    const place = filled[group];
    if (place === undefined || place === sizeOf(group)) {
      const columns = group === groups - 1 ? "the last group" : "each group";
      const problem = place === undefined ? `a group of the ${groups}` : `${sizeOf(group)} columns in ${columns}`;
      throw matrix.errorAt(tensor, `expected ${problem}, got group ${group} at column ${column}`);
    }
    filled[group] = place + 1;
    const stored = group * size + place;
    order[stored] = column;
    sorted &&= stored === column;
  }
  return sorted ? undefined : order;
}

/**
 * The same from `weight_g_idx` of compressed-tensors, which is -1 throughout for matrices that it did not order, such as those
 * of experts without samples.
 */
export function chosenOrder(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  bytes: Uint8Array,
  size: number,
): Int32Array | undefined {
  const groupOf = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  return groupOf.every((group) => group === -1) ? undefined : inputOrder(matrix, tensor, bytes, size);
}

/** The tensor that {@link chosenOrder} reads, if there is one. */
export function findGroups(matrix: StoredMatrix): FoundTensor | undefined {
  return matrix.has("weight_g_idx") ? matrix.need("weight_g_idx", ["I32"], [matrix.columns]) : undefined;
}

/** Rows of the codes of `bits` bits, the columns in another order. */
export function reorderColumns(
  codes: Uint8Array,
  rows: number,
  columns: number,
  bits: number,
  order: Int32Array,
): Uint8Array {
  const stride = codes.byteLength / rows;
  const target = new Uint8Array(codes.byteLength);
  const mask = (1 << bits) - 1;
  for (let row = 0; row < rows; row++) {
    const start = row * stride;
    for (let stored = 0; stored < columns; stored++) {
      const from = (order[stored] as number) * bits;
      const low = codes[start + (from >> 3)] as number;
      const high = codes[start + (from >> 3) + 1] as number;
      const code = ((low | (high << 8)) >> (from & 7)) & mask;
      putCode(target, start, stored, code, bits);
    }
  }
  return target;
}
