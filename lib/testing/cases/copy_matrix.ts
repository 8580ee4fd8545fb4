import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Case } from "../case.js";
import { unitRoundoff } from "../rounding.js";

/** Matrices in the memory of a tensor of 12 x 20 elements: the element where each begins, its size, its strides. */
const parts = {
  whole: { first: 0, rows: 12, columns: 20, rowStride: 20, columnStride: 1 },
  transposed: { first: 0, rows: 20, columns: 12, rowStride: 1, columnStride: 20 },
  "every third column": { first: 1, rows: 12, columns: 6, rowStride: 20, columnStride: 3 },
  "in one corner": { first: 7 * 20 + 9, rows: 5, columns: 11, rowStride: 20, columnStride: 1 },
  "one row repeated": { first: 40, rows: 9, columns: 20, rowStride: 0, columnStride: 1 },
} as const;

export function copyMatrixCase(part: keyof typeof parts, source: FloatDType, target: FloatDType): Case {
  return {
    name: `${part}, ${source} to ${target}`,
    operator: "copyMatrix",
    tolerances: { copy: source === target ? 0 : unitRoundoff[target] },
    run(inputs) {
      const { first, rows, columns, rowStride, columnStride } = parts[part];
      const { handle } = inputs.normals([12, 20], source);
      const copy = inputs.empty([rows, columns], target);
      const matrix = { handle: handle.view([240 - first], first), rows, columns, rowStride, columnStride };
      inputs.device.backend.copyMatrix({ source: matrix, target: copy.handle });
      matrix.handle.free();
      return { copy };
    },
  };
}

const dtypes = ["f32", "f16", "bf16"] as const;

export const copyMatrixCases: readonly Case[] = [
  ...dtypes.flatMap((source) => dtypes.map((target) => copyMatrixCase("every third column", source, target))),
  ...(["whole", "transposed", "in one corner", "one row repeated"] as const).flatMap((part) => [
    copyMatrixCase(part, "f32", "f32"),
    copyMatrixCase(part, "bf16", "bf16"),
  ]),
];
