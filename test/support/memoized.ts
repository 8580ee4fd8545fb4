/** `compute`, which for arguments that it has had before returns what it returned then: results that all devices are compared with. */
export function memoized<Arguments extends readonly (string | number)[], Result>(
  compute: (...given: Arguments) => Result,
): (...given: Arguments) => Result {
  const known = new Map<string, Result>();
  return (...given) => {
    const key = JSON.stringify(given);
    if (!known.has(key)) known.set(key, compute(...given));
    return known.get(key) as Result;
  };
}
