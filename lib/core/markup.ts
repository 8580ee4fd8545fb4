import { printable } from "./printable.js";

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
};

/** Text within XML or HTML, or within an attribute's quotes. Control characters, which XML cannot have, are written out. */
export function escaped(text: string): string {
  return printable(text).replaceAll(/[&<>"']/g, (character) => entities[character] as string);
}

/** What an HTML page of ours consists of: markup, with text already {@link escaped}. */
export interface HtmlPage {
  readonly title: string;
  /** Of the text, in pixels. */
  readonly width: number;
  /** Rules besides those that all pages share. */
  readonly style: string;
  /** What follows the heading. */
  readonly body: string;
}

/** One self-contained page. */
export function htmlPage({ title, width, style, body }: HtmlPage): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: ${width}px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2rem; }
dt { color: #666; font-size: .8rem; }
dd { margin: 0; }
svg { max-width: 100%; height: auto; }
${style}
</style>
<h1>${title}</h1>
${body}
</html>
`;
}

/** Names and values of what a page is about, already {@link escaped}. */
export function htmlFacts(facts: readonly (readonly [name: string, value: string])[]): string {
  return `<dl>\n${facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("\n")}\n</dl>`;
}
