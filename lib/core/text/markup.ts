import { createHash } from "node:crypto";
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
  /** The text's width, in pixels. */
  readonly width: number;
  /** Rules besides those that all pages share. Colours: --ink, --quiet, --paper, --line, --accent, --bad. */
  readonly style: string;
  /** What follows the heading. */
  readonly body: string;
  /** Runs after the body is there; default none. */
  readonly script?: string;
}

/** One self-contained page, light or dark as the reader's system is. It loads nothing and runs no other script, which its policy has browsers enforce. */
export function htmlPage({ title, width, style, body, script }: HtmlPage): string {
  const hash =
    script === undefined ? "" : `; script-src 'sha256-${createHash("sha256").update(script).digest("base64")}'`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'${hash}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
:root { color-scheme: light dark; --ink: #222; --quiet: #5f5f5f; --paper: #fff; --line: #ddd; --accent: #31688e; --bad: #b00020; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --quiet: #a0a0a0; --paper: #17191c; --line: #3a3d42; --accent: #7fb4d8; --bad: #ff7a85; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: ${width}px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2rem; }
dt { color: var(--quiet); font-size: .8rem; }
dd { margin: 0; }
svg { max-width: 100%; height: auto; }
${style}
</style>
<h1>${title}</h1>
${body}
${script === undefined ? "" : `<script>${script}</script>\n`}</html>
`;
}

/** Names and values of what a page is about, already {@link escaped}. */
export function htmlFacts(facts: readonly (readonly [name: string, value: string])[]): string {
  return `<dl>\n${facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("\n")}\n</dl>`;
}
