/** For JSON.stringify: numbers that JSON lacks, such as Infinity, become strings. */
export function finiteOrText(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
