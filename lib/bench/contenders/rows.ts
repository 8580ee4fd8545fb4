import { shapeSize } from "../../core/tensors/shape.js";
import type { TestArray } from "../../testing/subject/subject.js";

/** Values of a problem's outputs, computed by `reference` in float64 from the inputs as they are rounded. */
export interface Sample {
  readonly values: Readonly<Record<string, ArrayLike<number>>>;
  /** The values of a whole output that belong to the sample, in its order. */
  pick(output: string, values: ArrayLike<number>): ArrayLike<number>;
  /** What is compared, in words; empty if it is everything. */
  readonly text: string;
}

/** At most `most` of 0 .. length-1, at least one, evenly spaced with both ends. */
export function spread(length: number, most: number): number[] {
  const count = Math.min(length, Math.max(1, most));
  return Array.from({ length: count }, (_, index) =>
    count === 1 ? length - 1 : Math.round((index * (length - 1)) / (count - 1)),
  );
}

/** Some rows: entries along the first dimension. */
export function rowsOf(array: TestArray, rows: readonly number[]): TestArray {
  const [, ...rest] = array.shape as [number, ...number[]];
  const width = shapeSize(rest);
  return { ...array, data: pickRows(array.data, rows, width) as TestArray["data"], shape: [rows.length, ...rest] };
}

/** Some rows of `width` values each. */
export function pickRows(values: ArrayLike<number>, rows: readonly number[], width: number): ArrayLike<number> {
  const Picked = (ArrayBuffer.isView(values) ? values.constructor : Float64Array) as Float64ArrayConstructor;
  const picked = new Picked(rows.length * width);
  rows.forEach((row, index) => {
    for (let column = 0; column < width; column++) {
      picked[index * width + column] = values[row * width + column] as number;
    }
  });
  return picked;
}
