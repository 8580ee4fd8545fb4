import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MoeError } from "../errors.js";
import { namedAddon } from "./addon_files.js";
import { findPackage } from "./package_root.js";
import { type LibraryKind, platformName, platforms } from "./platforms.js";

/** Where the build at install leaves its output if it failed, in the package's folder. */
export const installLog = join("build", "install.log");

/** The error of a missing addon: why it cannot be loaded, how the build at install ended, and what to do. */
export function notBuilt(reasons: readonly string[], cause?: unknown): MoeError {
  const root = findPackage();
  const named = namedAddon();
  const binary = `a moe_kernels.node built for ${platformName()} and Node-API 9`;
  const remedies = [
    ...refusalRemedy(root, cause),
    ...(named === undefined
      ? [...installRemedies(root), `set MOE_KERNELS_BINARY to ${binary}`]
      : [`unset MOE_KERNELS_BINARY, so that the package's own is looked for, or set it to ${binary}`]),
    'use openDevice("reference"), which is slow but needs no addon',
  ];
  const message = [
    `the native addon ${named === undefined ? "" : "that MOE_KERNELS_BINARY names "}cannot be loaded: ${reasons.join("; ")}`,
    ...(named === undefined && root !== undefined ? endOf(join(root, installLog)) : []),
    "Do one of the following:",
    ...remedies.map((remedy) => `  - ${remedy}`),
  ].join("\n");
  return new MoeError("NOT_BUILT", message, cause === undefined ? undefined : { cause });
}

/** What makes the package's own addon, which is not looked for where MOE_KERNELS_BINARY names another. */
function installRemedies(root: string | undefined): string[] {
  return [
    ...(root === undefined ? ["npm install moe-kernels in the folder of the program"] : []),
    ...(Object.hasOwn(platforms, platformName())
      ? ["install the binary for this platform: npm install moe-kernels --include=optional"]
      : []),
    ...(root === undefined ? [] : [buildRemedy(root)]),
  ];
}

function endOf(log: string): string[] {
  if (!existsSync(log)) return [];
  const lines = readFileSync(log, "utf8").trim().split("\n").slice(-12);
  return [`The build at install failed. The end of ${log}:`, ...lines.map((line) => `  ${line}`)];
}

function buildRemedy(root: string): string {
  return [
    "build it from source, with CMake >= 3.22 and a C++20 compiler (GCC >= 11 or Clang >= 14; tested on Linux x64 and arm64):",
    `    ${buildCommand(root)}`,
  ].join("\n");
}

/** The command that builds the addon, or a device's library and what it needs. */
export function buildCommand(root: string, only?: LibraryKind): string {
  const setup = join(root, "scripts", "setup.mjs");
  const device = only === undefined ? "" : ` --only ${only}`;
  return existsSync(setup) ? `node "${setup}"${device}` : `node "${join(root, "scripts", "install.mjs")}" --source`;
}

/** How to start Node where it loads no addons, or under its permission model. */
function refusalRemedy(root: string | undefined, cause: unknown): string[] {
  if (process.permission === undefined) {
    const refused = (Object(cause) as NodeJS.ErrnoException).code === "ERR_DLOPEN_DISABLED";
    return refused ? ["start Node without --no-addons"] : [];
  }
  return [
    "start Node with --allow-addons, and with --allow-fs-read for the folder of node_modules" +
      (root === undefined ? "" : `, such as --allow-fs-read="${join(root, "..")}"`),
  ];
}
