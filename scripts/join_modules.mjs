// Joins the modules of lib into those that are published, in dist: Node takes most of a millisecond for each file that it
// imports, and there are hundreds.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { listFiles } from "./files.mjs";

const { exports, bin } = JSON.parse(readFileSync("package.json", "utf8"));
const named = Object.values(exports).flatMap((target) => target.default ?? []);
const ofInstall = ["addon_files", "not_built", "platforms"].map((name) => `dist/core/addon/${name}.js`); // scripts/install.mjs
for (const path of listFiles("dist")) if (/\.js(\.map)?$/.test(path)) rmSync(path);
buildSync({
  entryPoints: [...named, ...Object.values(bin), ...ofInstall].map((path) =>
    join(path).replace(/^dist/, "lib").replace(/js$/, "ts"),
  ),
  outdir: "dist",
  outbase: "lib",
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true, // so that all entry points share one Tensor
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  keepNames: true,
  sourcemap: true,
  logLevel: "warning",
});
