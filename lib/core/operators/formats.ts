import { boolean, matrix, operator, optionalOutput, output, weight, weightFormat } from "./field.js";

/** To and from quantised formats. */
export const formats = {
  /**
   * A matrix [N, K] in a format, by round to nearest; lib/reference/formats/quantize.ts says how scales are chosen. With
   * `search`, each group's scale is the one of 24 with the least sum of squared errors.
   */
  quantize: operator({
    values: matrix,
    format: weightFormat,
    search: boolean,
    codes: output,
    scales: output,
    superScales: optionalOutput,
    zeros: optionalOutput,
    superZeros: optionalOutput,
  }),
  /**
   * values [N, K] of a weight in any format, in the order of its inputs, rounded to their dtype. Stored columns whose
   * input is not one of 0 .. K-1 are left out; an input that none multiplies gets zeros.
   */
  dequantize: operator({ weight, values: output }),
  /** error [1] = sqrt(Σ (weight - values)² / Σ values²) over all elements of a matrix; 0 if they are equal. */
  quantizationError: operator({ values: matrix, weight, error: output }),
};
