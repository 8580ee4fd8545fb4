/** Whether a case's operator and name contain a text. */
export function caseContains({ operator, name }: { operator: string; name: string }, text: string): boolean {
  return `${operator} ${name}`.includes(text);
}
