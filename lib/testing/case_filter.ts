/** An operator's name, from that of its function. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Whether a case's operator and name contain a text, which may spell the operator as its function or in snake case. */
export function caseContains({ operator, name }: { operator: string; name: string }, text: string): boolean {
  return [camelCase(operator), snakeCase(operator)].some((spelling) => `${spelling} ${name}`.includes(text));
}
