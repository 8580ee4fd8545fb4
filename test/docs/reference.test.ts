import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as moeKernels from "moe-kernels";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";

// The reference in docs/api is generated from doc comments. What is exported has one, and their links lead somewhere.

test("npm run docs writes a page for every function and class", () => {
  const { status, stdout, stderr } = runScript("scripts/setup.mjs", ["--typescript", "--docs"]);
  expect({ status, stdout, stderr }).toMatchObject({ status: 0, stderr: "" });
  const pages = readdirSync("docs/api", { recursive: true, encoding: "utf8" });
  const missing = Object.keys(moeKernels).filter((name) => !pages.some((page) => page.endsWith(`/${name}.md`)));
  expect(missing).toEqual([]);
  for (const module of ["safetensors", "gguf", "testing", "bench"])
    expect(pages).toContain(`moe-kernels/${module}/README.md`);
  expect(readFileSync(join("docs/api", findPage(pages, "gating")), "utf8")).toContain("[T, E] f32, f16 or bf16.");
});

function findPage(pages: readonly string[], name: string): string {
  return pages.find((page) => page.endsWith(`functions/${name}.md`)) as string;
}

test.each([
  ["export const undocumented = 1;\n", "undocumented (Variable), defined in"],
  ["/** See {@link nowhere}. */\nexport const documented = 1;\n", 'Failed to resolve link to "nowhere"'],
])("%j is refused", (source, problem) => {
  using directory = temporaryDirectory();
  const { path } = directory;
  mkdirSync(join(path, "lib"));
  writeFileSync(join(path, "lib", "index.ts"), source);
  writeFileSync(join(path, "tsconfig.json"), '{ "compilerOptions": { "types": [] }, "include": ["lib"] }');
  const options = onlyOwn(JSON.parse(readFileSync("typedoc.json", "utf8")));
  writeFileSync(join(path, "typedoc.json"), JSON.stringify({ ...options, entryPoints: ["lib/index.ts"], out: "api" }));
  const typedoc = resolve("node_modules/typedoc/bin/typedoc");
  const { status, stdout, stderr } = spawnSync(process.execPath, [typedoc], { cwd: path, encoding: "utf8" });
  expect(status).not.toBe(0);
  expect(stdout + stderr).toContain(problem);
});

/** The options without those of the plugin that writes Markdown. */
function onlyOwn(options: Record<string, unknown>): Record<string, unknown> {
  const own = ["name", "readme", "validation", "treatWarningsAsErrors", "disableSources"];
  return Object.fromEntries(Object.entries(options).filter(([name]) => own.includes(name)));
}
