/**
 * Ascending integers in short form: "0, 3-60", "every 2nd from 1 to 31".
 */
export function formatRanges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let first = 0; first < numbers.length; ) {
    const last = runEnd(numbers, first);
    parts.push(formatRun(numbers.slice(first, last + 1)));
    first = last + 1;
  }
  return parts.join(", ");
}

/** Last index of the run of equal steps that begins at `first`; a run of steps above 1 needs at least three numbers. */
function runEnd(numbers: readonly number[], first: number): number {
  const stepTo = (index: number): number => (numbers[index] as number) - (numbers[index - 1] as number);
  let last = first + 1;
  if (last >= numbers.length) return first;
  while (last + 1 < numbers.length && stepTo(last + 1) === stepTo(first + 1)) last++;
  return stepTo(first + 1) === 1 || last - first >= 2 ? last : first;
}

function formatRun(run: readonly number[]): string {
  const [first, second, last] = [run[0], run[1], run.at(-1)] as [number, number | undefined, number];
  if (second === undefined) return String(first);
  return second - first === 1 ? `${first}-${last}` : `every ${ordinal(second - first)} from ${first} to ${last}`;
}

function ordinal(value: number): string {
  const teens = value % 100 >= 11 && value % 100 <= 13;
  return `${value}${(!teens && ["th", "st", "nd", "rd"][value % 10]) || "th"}`;
}
