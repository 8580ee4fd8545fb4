import { invalidArgument, unexpected } from "../core/errors.js";
import { attempt, longestList } from "../core/input/foreign.js";

/** What an iterable gives, read once; at most `longestList` values. */
export function listed<T>(parameter: string, values: unknown): T[] {
  return attempt(parameter, () => {
    const iterates = typeof values === "object" && values !== null && Symbol.iterator in values;
    if (!iterates || typeof values[Symbol.iterator] !== "function") {
      throw invalidArgument(parameter, "a list or another iterable", values);
    }
    const list: T[] = [];
    for (const value of values as Iterable<T>) {
      if (list.length === longestList) throw unexpected(parameter, "at most 2^20 values", "more");
      list.push(value);
    }
    return list;
  });
}
