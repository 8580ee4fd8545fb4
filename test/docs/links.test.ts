import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { repository, succeed } from "../package/project.js";
import { documents, prose } from "./documents.js";

// Links within the repository lead to files that git has, and to headings that are there; those of the npm package to files that
// it has.

const headings = new Map<string, ReadonlySet<string>>();

describe.each(documents)("$path", ({ path, text }) => {
  const links = linksOf(text);

  test("has no dead links", () => {
    expect(links.filter((link) => !isExternal(link) && problemOf(path, link) !== undefined)).toEqual([]);
  });

  test("has no brackets where a link was meant", () => {
    expect(prose(text).match(/\]\([^)]*$|\]\(\)/gm)).toBeNull();
  });
});

/** The files of the npm package, and their folders. */
function packedPaths(): ReadonlySet<string> {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const [{ files }] = JSON.parse(succeed("npm", args, repository)) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  return new Set(
    paths.flatMap((path) => path.split("/").map((_, index, parts) => parts.slice(0, index + 1).join("/"))),
  );
}

test("no link of a document in the npm package leads out of it", () => {
  const packed = packedPaths();
  const pages = [...packed].filter((path) => path.endsWith(".md"));
  expect(pages).toEqual(expect.arrayContaining(["README.md", "docs/README.md", "docs/guides/install.md"]));
  const leadingOut = pages.flatMap((path) =>
    linksOf(readFileSync(path, "utf8"))
      .filter((link) => !isExternal(link) && !packed.has(targetOf(path, link).replaceAll("\\", "/")))
      .map((link) => `${path}: ${link}`),
  );
  expect(leadingOut).toEqual([]);
});

test("links are found in Markdown and in HTML", () => {
  const text = '[a](b.md#c) ![d](e.png) <img src="f.svg"> <source srcset="g.svg"> <a href="h.md"> `[i](j.md)`';
  expect(linksOf(text)).toEqual(["b.md#c", "e.png", "f.svg", "g.svg", "h.md"]);
});

test("there are links, external ones with a scheme", () => {
  const links = documents.flatMap(({ text }) => linksOf(text));
  expect(links.length).toBeGreaterThan(80);
});

test("a heading's anchor is GitHub's", () => {
  const anchors = anchorsOf("# A b\n## `offload`: how, why?\n## A b\n```\n# no\n```\n## x_y-z");
  expect([...anchors]).toEqual(["a-b", "offload-how-why", "a-b-1", "x_y-z"]);
});

/** What a Markdown text links to, or shows. */
function linksOf(text: string): string[] {
  const links = prose(text).matchAll(/\]\(([^)\s]+)\)|<[^>]*\b(?:src|srcset|href)="([^"]+)"/g);
  return [...links].map(([, inMarkdown, inHtml]) => (inMarkdown ?? inHtml) as string);
}

/** The file that a link of a file leads to. */
function targetOf(from: string, link: string): string {
  const [file] = link.split("#") as [string];
  return file === "" ? from : normalize(join(dirname(from), file));
}

function isExternal(link: string): boolean {
  return /^https?:\/\//.test(link);
}

/** What is wrong with a link of a file. */
function problemOf(from: string, link: string): string | undefined {
  const [, anchor] = link.split("#");
  const target = targetOf(from, link);
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
