// Copies the addon to prebuilds/, for `npm pack` to include and installations to load without a build. In a checkout it
// is built anew, as the addon that setup builds there contains the tests' operators.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { prebuiltPath } from "../dist/core/native.js";
import { packageRoot } from "../dist/core/package_root.js";
import { buildNative } from "./build_native.mjs";

const built = join(packageRoot(), buildFolder(), "Release", "moe_kernels.node");
const prebuilt = prebuiltPath();
mkdirSync(dirname(prebuilt), { recursive: true });
copyFileSync(built, prebuilt);
strip(prebuilt);
console.log(`${relative(packageRoot(), prebuilt)}: ${(statSync(prebuilt).size / 2 ** 20).toFixed(1)} MiB`);

/** Removes local symbols. The addon works with them too, so without `strip` the package is merely larger. */
function strip(path) {
  if (process.platform === "win32") return;
  const { status, error } = spawnSync("strip", ["-x", path], { stdio: "inherit" });
  if (error || status !== 0) console.warn(`prebuild: not stripped: ${error?.message ?? `strip: exit code ${status}`}`);
}

/** The folder of a build without the tests' operators. */
function buildFolder() {
  if (!existsSync(join(packageRoot(), "test", "native"))) return "build";
  const out = join("build", "prebuild");
  const failure = buildNative({ out, defines: { MOE_BUILD_TESTS: "OFF" } });
  if (failure === undefined) return out;
  console.error(`prebuild: ${failure}`);
  process.exit(1);
}
