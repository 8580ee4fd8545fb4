import { expect, test } from "vitest";
import {
  formatBytes,
  formatCount,
  formatError,
  formatMicroseconds,
  plural,
  significant,
} from "../../lib/terminal/format.js";

test.each([
  [0, "0"],
  [0.001234, "0.00123"],
  [1.5, "1.50"],
  [12.345, "12.3"],
  [123.4, "123"],
  [123456, "123456"],
  [-2.5, "-2.50"],
  [Number.POSITIVE_INFINITY, "Infinity"],
])("%d in three digits is %s", (value, text) => {
  expect(significant(value)).toBe(text);
});

test.each([
  [0.5, "0.500 µs"],
  [999, "999 µs"],
  [1500, "1.50 ms"],
  [2.5e6, "2.50 s"],
])("%d microseconds are %s", (value, text) => {
  expect(formatMicroseconds(value)).toBe(text);
});

test.each([
  [0, "0 B"],
  [422.99999727551375, "423 B"],
  [1023, "1023 B"],
  [1023.9, "1.00 KiB"],
  [1536, "1.50 KiB"],
  [805306368, "768 MiB"],
  [2 ** 60, "1048576 TiB"],
])("%d bytes are %s", (value, text) => {
  expect(formatBytes(value)).toBe(text);
});

test("errors have two digits", () => {
  expect(formatError(0)).toBe("0");
  expect(formatError(1.26e-6)).toBe("1.3e-6");
});

test("nouns agree with their number", () => {
  expect([0, 1, 2].map((count) => plural(count, "token"))).toEqual(["0 tokens", "1 token", "2 tokens"]);
});

test.each([
  [0, "0"],
  [999, "999"],
  [1000, "1.00 thousand"],
  [176_160_768, "176 million"],
  [653_911_195_648, "654 billion"],
  [1.5e16, "15000 trillion"],
])("a count of %d is %s", (count, text) => expect(formatCount(count)).toBe(text));
