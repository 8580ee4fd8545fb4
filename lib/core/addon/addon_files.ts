import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { messageOf } from "../errors.js";
import { findPackage, resolveInstalled } from "./package_root.js";
import { addonFile, platformName, platformPackage, platforms } from "./platforms.js";
import { packageVersion } from "./version.js";

/** Where a build from source puts the addon, in the package's folder. */
export const buildFolder = join("build", "Release");

export interface Addons {
  /** Files to load the addon from, best first. */
  readonly files: readonly string[];
  /** Why there are no others, a sentence each. */
  readonly missing: string[];
}

/**
 * The files that may be this package's addon. A build in the package's own folder comes first: there is one only where
 * somebody wanted it or the platform's package does not load. MOE_KERNELS_BINARY names the only candidate.
 */
export function findAddons(): Addons {
  const named = namedAddon();
  if (named !== undefined) {
    return existsSync(named) ? { files: [named], missing: [] } : { files: [], missing: [`${named} not found`] };
  }
  const found = [ownBuild(), platformAddon()];
  return {
    files: found.flatMap((file) => ("file" in file ? [file.file] : [])),
    missing: found.flatMap((file) => ("missing" in file ? [file.missing] : [])),
  };
}

/** The file that MOE_KERNELS_BINARY names; undefined if it names none. */
export function namedAddon(): string | undefined {
  const { MOE_KERNELS_BINARY } = process.env;
  return MOE_KERNELS_BINARY ? resolve(MOE_KERNELS_BINARY) : undefined;
}

export type Found = { readonly file: string } | { readonly missing: string };

function ownBuild(): Found {
  const root = findPackage();
  if (root === undefined) {
    return { missing: "this program is a bundle, and the package moe-kernels is not installed where it runs" };
  }
  try {
    // From the package, not imported: a bundle has no place for a module that asks for its own path.
    const bindings = createRequire(join(root, "package.json"))("bindings") as (options: object) => string;
    const tries = [["module_root", buildFolder, "bindings"]];
    return { file: bindings({ bindings: addonFile, module_root: root, try: tries, path: true }) };
  } catch (error) {
    const { tries } = error as { tries?: readonly string[] };
    return { missing: tries === undefined ? messageOf(error) : `${tries.join(" and ")} not found` };
  }
}

/** The addon in this platform's package. */
export function platformAddon(): Found {
  const platform = platformName();
  if (!Object.hasOwn(platforms, platform)) {
    return { missing: `there is no binary for ${platform}, only for ${Object.keys(platforms).join(", ")}` };
  }
  return installedFile(platformPackage(platform), addonFile);
}

/** A file of an installed package, which must be of this version. */
export function installedFile(name: string, path: string): Found {
  const manifest = resolveInstalled(`${name}/package.json`);
  if (manifest === undefined) return { missing: `the package ${name} is not installed` };
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  if (version !== packageVersion) {
    return { missing: `${dirname(manifest)} has version ${version}, expected ${packageVersion}` };
  }
  const file = join(dirname(manifest), path);
  return existsSync(file) ? { file } : { missing: `${file} not found` };
}
