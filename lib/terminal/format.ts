/** A readable time: 1.23 µs, 45.6 ms, 7.89 s. */
export function formatMicroseconds(microseconds: number): string {
  if (microseconds < 1e3) return `${significant(microseconds)} µs`;
  if (microseconds < 1e6) return `${significant(microseconds / 1e3)} ms`;
  return `${significant(microseconds / 1e6)} s`;
}

/** A readable size, in powers of 1024, of bytes that may be a mean. */
export function formatBytes(size: number): string {
  const bytes = Math.round(size);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return power === 0 ? `${bytes} B` : `${significant(bytes / 1024 ** power)} ${units[power]}`;
}

/** A number with three significant digits and no exponent. */
export function significant(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 20));
}

/** A readable large number: 654 billion. */
export function formatCount(value: number): string {
  const units = ["", " thousand", " million", " billion", " trillion"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return power === 0 ? String(value) : `${significant(value / 1000 ** power)}${units[power]}`;
}

/** A relative error: two digits and an exponent, or a plain 0. */
export function formatError(value: number): string {
  return value === 0 ? "0" : value.toExponential(1);
}

/** "1 token", "2 tokens". */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
