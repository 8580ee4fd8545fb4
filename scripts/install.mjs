// npm's install script. Never fails an installation: without the addon the package still loads, its `reference` device
// works, and everything that needs the addon says what is missing.
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildNative, root } from "./build_native.mjs";

// A source checkout is set up by scripts/setup.mjs, which the published package does not have.
if (!existsSync(join(root, "scripts", "setup.mjs"))) await install();

async function install() {
  const { prebuiltPath } = await import("../dist/core/native.js");
  if (loads(prebuiltPath())) return;
  mkdirSync(join(root, "build"), { recursive: true });
  const log = join(root, "build", "install.log");
  const output = openSync(log, "w");
  const failure = buildNative({ output });
  if (failure) writeSync(output, `${failure}\n`);
  closeSync(output);
  if (!failure) {
    rmSync(log);
    return;
  }
  console.warn(`moe-kernels: the native addon was not built: ${failure}`);
  console.warn(`moe-kernels is installed anyway, with only its reference device. Build output: ${log}`);
}

function loads(path) {
  if (!existsSync(path)) return false;
  try {
    createRequire(import.meta.url)(path);
    return true;
  } catch (error) {
    console.warn(`moe-kernels: ${path} does not load here (${error.message}); building from source`);
    return false;
  }
}
