import { Made } from "./made.js";

/** What `make` makes of each value. If it throws for one, what it made of those before is disposed of. */
export function allOrNone<T, R extends Disposable>(values: readonly T[], make: (value: T) => R): R[] {
  using made = new Made();
  return made.returned(values.map((value) => made.own(make(value))));
}
