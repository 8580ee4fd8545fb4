/** What `make` makes of each value. If it throws for one, what it made of those before is disposed of. */
export function allOrNone<T, R extends Disposable>(values: readonly T[], make: (value: T) => R): R[] {
  const made: R[] = [];
  try {
    for (const value of values) made.push(make(value));
    return made;
  } catch (error) {
    for (const each of made) each[Symbol.dispose]();
    throw error;
  }
}
