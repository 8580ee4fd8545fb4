import { randomUUID } from "node:crypto";

/** An indented text of JSON, in which NaN and infinities keep their names as in Python's; in JSON they would be null. */
export function pythonJson(value: object): string {
  const mark = randomUUID();
  const text = JSON.stringify(
    value,
    (_, entry: unknown) => (typeof entry === "number" && !Number.isFinite(entry) ? `${mark}${entry}` : entry),
    2,
  );
  return text.replaceAll(new RegExp(`"${mark}(.*?)"`, "g"), "$1");
}
