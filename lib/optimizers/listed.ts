import { invalidArgument } from "../core/errors.js";
import { attempt } from "../core/foreign.js";

/** An iterable may have no end. */
const most = 2 ** 20;

/** What an iterable gives, read once; at most 2^20 values. */
export function listed<T>(parameter: string, values: unknown): T[] {
  return attempt(parameter, () => {
    const iterates = typeof values === "object" && values !== null && Symbol.iterator in values;
    if (!iterates || typeof values[Symbol.iterator] !== "function") {
      throw invalidArgument(parameter, "a list or another iterable", values);
    }
    const list: T[] = [];
    for (const value of values as Iterable<T>) {
      if (list.length === most) throw invalidArgument(parameter, "at most 2^20 values", "more");
      list.push(value);
    }
    return list;
  });
}
