// Copies the built addon to prebuilds/, from where `npm pack` takes it and an installation loads it without a build.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { packageRoot, prebuiltPath } from "../dist/core/native.js";

const built = join(packageRoot, "build", "Release", "moe_kernels.node");
const prebuilt = prebuiltPath();
mkdirSync(dirname(prebuilt), { recursive: true });
copyFileSync(built, prebuilt);
strip(prebuilt);
console.log(`${relative(packageRoot, prebuilt)}: ${(statSync(prebuilt).size / 2 ** 20).toFixed(1)} MiB`);

/** Removes local symbols; the addon works with them too, so a machine without `strip` only makes a larger package. */
function strip(path) {
  if (process.platform === "win32") return;
  const { status, error } = spawnSync("strip", ["-x", path], { stdio: "inherit" });
  if (error || status !== 0) console.warn(`prebuild: not stripped: ${error?.message ?? `strip: exit code ${status}`}`);
}
