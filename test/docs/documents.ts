import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A Markdown file of this repository. */
export interface Document {
  readonly path: string;
  readonly text: string;
}

export interface CodeBlock {
  readonly path: string;
  /** 1 for the first line of the file. */
  readonly line: number;
  readonly language: string;
  readonly code: string;
  /** The last line of text before the block. */
  readonly before: string;
}

function markdownIn(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name))
    .sort();
}

function read(path: string): Document {
  return { path, text: readFileSync(path, "utf8") };
}

/** Pages that are generated from doc comments, if they are there. */
const generated = join("docs", "api");

/** What users read. */
export const userDocuments: readonly Document[] = [
  "README.md",
  ...markdownIn("docs").filter((path) => !path.startsWith(generated)),
].map(read);

/** Everything. */
export const documents: readonly Document[] = [
  ...userDocuments,
  ...["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "test/golden/README.md"].map(read),
  ...markdownIn(join("bench", "results")).map(read),
];

export function codeBlocks({ path, text }: Document): readonly CodeBlock[] {
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map((match) => {
    const above = text.slice(0, match.index).split("\n");
    return {
      path,
      line: above.length,
      language: match[1] as string,
      code: match[2] as string,
      before: above.findLast((line) => line !== "") ?? "",
    };
  });
}

/** The text without code blocks and inline code: what Markdown reads links in. */
export function prose(text: string): string {
  return text.replace(/^```.*?^```$/gms, "").replace(/`[^`]*`/g, "");
}

/** The commands in a document's code blocks and inline code, without comments. */
export function commandsIn(text: string): readonly string[] {
  const lines = text.replaceAll("\\\n", " ").split("\n");
  const inBlocks = lines.flatMap((line) => /^(?: {4}|\$ )(.*)/.exec(line)?.[1] ?? []);
  const inline = [...text.replace(/^```.*?^```$/gms, "").matchAll(/`([^`]+)`/g)].map(([, code]) => code as string);
  return [...inBlocks, ...inline]
    .map((command) =>
      command
        .replace(/ +# .*/, "")
        .replace(/\s+/g, " ")
        .trim(),
    )
    .filter((command) => /^(?:npx|npm|pnpm|node) [\w-]/.test(command));
}
