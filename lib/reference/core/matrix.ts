/** A row-major matrix in float64. */
export interface Matrix {
  readonly values: Float64Array;
  readonly rows: number;
  readonly columns: number;
}

/** A matrix of zeros. */
export function zeros(rows: number, columns: number): Matrix {
  return { values: new Float64Array(rows * columns), rows, columns };
}

/** One row, sharing memory with the matrix. */
export function rowOf({ values, columns }: Matrix, row: number): Float64Array {
  return values.subarray(row * columns, (row + 1) * columns);
}

/** The matrix padded with zero rows and columns to this size. */
export function extended(matrix: Matrix, rows: number, columns: number): Matrix {
  if (matrix.rows === rows && matrix.columns === columns) return matrix;
  const result = zeros(rows, columns);
  for (let row = 0; row < matrix.rows; row++) rowOf(result, row).set(rowOf(matrix, row));
  return result;
}

/** weight · x + bias, summed in column order. */
export function linear(x: Float64Array, weight: Matrix, bias: Float64Array | undefined): Float64Array {
  const y = new Float64Array(weight.rows);
  for (let row = 0; row < weight.rows; row++) {
    const offset = row * weight.columns;
    let sum = 0;
    for (let column = 0; column < weight.columns; column++) {
      sum += (x[column] as number) * (weight.values[offset + column] as number);
    }
    y[row] = sum + (bias?.[row] ?? 0);
  }
  return y;
}

/** Adds factor · values to sums. */
export function addScaled(sums: Float64Array, factor: number, values: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + factor * (values[i] as number);
}
