import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { documents, prose } from "./documents.js";

// Links within the repository lead to files that git has, and to headings that are there.

const headings = new Map<string, ReadonlySet<string>>();

describe.each(documents)("$path", ({ path, text }) => {
  const links = [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link as string);

  test("has no dead links", () => {
    expect(links.filter((link) => !isExternal(link) && problemOf(path, link) !== undefined)).toEqual([]);
  });

  test("has no brackets where a link was meant", () => {
    expect(prose(text).match(/\]\([^)]*$|\]\(\)/gm)).toBeNull();
  });
});

test("there are links, external ones with a scheme", () => {
  const links = documents.flatMap(({ text }) => [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)]);
  expect(links.length).toBeGreaterThan(80);
});

test("a heading's anchor is GitHub's", () => {
  const anchors = anchorsOf("# A b\n## `offload`: how, why?\n## A b\n```\n# no\n```\n## x_y-z");
  expect([...anchors]).toEqual(["a-b", "offload-how-why", "a-b-1", "x_y-z"]);
});

function isExternal(link: string): boolean {
  return /^https?:\/\//.test(link);
}

/** What is wrong with a link of a file. */
function problemOf(from: string, link: string): string | undefined {
  const [file, anchor] = link.split("#") as [string, string?];
  const target = file === "" ? from : normalize(join(dirname(from), file));
  if (!existsSync(target)) return "no such file";
  if (anchor === undefined) return undefined;
  const known = headings.get(target) ?? anchorsOf(readFileSync(target, "utf8"));
  headings.set(target, known);
  return known.has(anchor) ? undefined : "no such heading";
}

/** The anchors of a Markdown text's headings, as GitHub names them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading] of text.replace(/^```.*?^```$/gms, "").matchAll(/^#{1,6} +(.*?) *$/gm)) {
    const name = (heading as string)
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_\- ]/gu, "")
      .replaceAll(" ", "-");
    let anchor = name;
    for (let n = 1; anchors.has(anchor); n++) anchor = `${name}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}
