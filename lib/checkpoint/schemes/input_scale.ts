import type { LocatedWeight, QuantizedBytes } from "../locate/located_weight.js";
import { checkScales, floatsOf } from "./scales.js";
import { floats, type StoredMatrix } from "./stored_matrix.js";

/**
 * The matrix with ModelOpt's `pre_quant_scale`, if it has one: factors of the tokens, which multiply its columns, whatever scheme
 * it is stored in.
 * @throws BAD_CHECKPOINT unless there is a finite factor for each column, in the order in which the file has the columns.
 */
export function withInputScale(matrix: StoredMatrix, located: LocatedWeight): LocatedWeight {
  if (!matrix.has("pre_quant_scale")) return located;
  const factors = matrix.need("pre_quant_scale", floats, [matrix.columns]);
  const { convert, ranges } = located;
  const read = convert ?? (([codes]: readonly Uint8Array[]): QuantizedBytes => ({ codes: codes as Uint8Array }));
  return {
    ...located,
    changesInputs: true,
    ranges: [...ranges, matrix.range(factors)],
    convert: async (bytes) => {
      const stored = await read(bytes.slice(0, -1));
      if (stored.inputOrder) throw matrix.errorAt(factors, "expected no such tensor beside an order of the columns");
      const own = bytes.at(-1) as Uint8Array;
      return { ...stored, inputScale: floatsOf(factors, checkScales(matrix, factors, own, matrix.columns)) };
    },
  };
}
