import type { Implementation } from "../core/implementation.js";

/** Adds 64-bit integers to totals [N, 2], each stored as its low and high word. */
function accumulateIntegers(totals: Int32Array, added: (index: number) => bigint): void {
  for (let index = 0; 2 * index < totals.length; index++) {
    const sum = wideInteger(totals, index) + added(index);
    totals[2 * index] = Number(BigInt.asIntN(32, sum));
    totals[2 * index + 1] = Number(BigInt.asIntN(32, sum >> 32n));
  }
}

/** Adds numbers to totals [N, 2], each the unevaluated sum of two floats: the rounded total and its rounding error. */
function accumulateFloats(
  totals: Float64Array,
  added: (index: number) => number,
  round: (value: number) => number,
): void {
  for (let index = 0; 2 * index < totals.length; index++) {
    const sum = wideFloat(totals, index) + added(index);
    totals[2 * index] = round(sum);
    totals[2 * index + 1] = sum - round(sum);
  }
}

/** Total `index` of totals [N, 2] in words. */
function wideInteger(words: ArrayLike<number>, index: number): bigint {
  return (BigInt(words[2 * index + 1] as number) << 32n) + BigInt((words[2 * index] as number) >>> 0);
}

/** Total `index` of totals [N, 2] in floats. */
function wideFloat(pairs: ArrayLike<number>, index: number): number {
  return (pairs[2 * index] as number) + (pairs[2 * index + 1] as number);
}

export const runAccumulate: Implementation<"accumulate"> = ({ values, totals, valuesAreTotals, scale }) => {
  if (totals.dtype === "i32") {
    const added = values.integers();
    accumulateIntegers(totals.integers(), (index) =>
      valuesAreTotals ? wideInteger(added, index) : BigInt(added[index] as number),
    );
    return;
  }
  const [added, sums] = [values.values(), totals.values()];
  const round = totals.dtype === "f64" ? (value: number) => value : Math.fround;
  const valueAt = (index: number) => (valuesAreTotals ? wideFloat(added, index) : (added[index] as number));
  accumulateFloats(sums, (index) => scale * valueAt(index), round);
  totals.store(sums);
};
