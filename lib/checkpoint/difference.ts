type Fields = Readonly<Record<string, unknown>>;

/** Characters of the longest value that is shown. */
const shown = 40;

/**
 * What a file was made from, compared with what it should have been: the first field that differs, in words, with both
 * values if they are short; undefined if all are alike. Values are as JSON has them.
 * @param stored what the file says.
 */
export function difference(stored: Fields, expected: Fields): string | undefined {
  const name = Object.keys(expected).find((key) => JSON.stringify(stored[key]) !== JSON.stringify(expected[key]));
  if (name === undefined) return undefined;
  const [got, wanted] = [inWords(stored[name]), inWords(expected[name])];
  const areShort = Math.max(got.length, wanted.length) <= shown;
  return areShort ? `expected ${name} ${wanted}, got ${got}` : `expected the same ${name}`;
}

function inWords(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "none");
}
