/** The name that `given` most likely misspells, if one is close; case, "_" and "-" do not count. */
function nearestName(given: string, names: readonly string[]): string | undefined {
  const plain = (name: string) => name.replace(/[_-]/g, "").toLowerCase();
  if (given.length > 40) return undefined;
  const ranked = names
    .map((name) => ({ name, distance: editDistance(plain(given), plain(name)) }))
    .filter(({ name, distance }) => distance < name.length && distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.name;
}

/** What an error adds about a name that does not exist: "; did you mean ...?" if one is close, else nothing. */
export function nearestHint(given: string, names: readonly string[], shown = (name: string) => `"${name}"`): string {
  const nearest = nearestName(given, names);
  return nearest === undefined ? "" : `; did you mean ${shown(nearest)}?`;
}

/** Levenshtein distance: the fewest letters to insert, delete or replace. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let line = 1; line <= from.length; line++) {
    const next = [line];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (row[column - 1] as number) + (from[line - 1] === to[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] as number) + 1, (next[column - 1] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}
