/** Characters that terminals interpret, or that change how the text around them looks. */
const unprintable = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/**
 * Escapes control characters, line breaks and changes of writing direction, for text of unknown origin, such as names
 * from files, in messages and on terminals. JSON on one line stays equivalent JSON.
 */
export function printable(text: string): string {
  return text.replace(
    unprintable,
    (character) => shortEscapes.get(character) ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
