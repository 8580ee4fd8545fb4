import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "#lib/core/addon/package_root.js";

/**
 * Packs this package, the platform's and all packages that they need into `folder`, without a network: the needed ones from
 * node_modules. With an addon that is built already, nothing is compiled.
 */
export function packAll(folder: string, addon?: string): void {
  const root = packageRoot();
  mkdirSync(folder, { recursive: true });
  const options = addon === undefined ? [] : ["--addon", addon, "--any-glibc"];
  const prebuild = join(root, "scripts", "prebuild.mjs");
  execFileSync(process.execPath, [prebuild, "--out", folder, ...options], { stdio: ["ignore", "ignore", "inherit"] });
  const packages = neededPackages(root).map((path) => `./${path}`);
  const args = ["pack", ...packages, "--ignore-scripts", "--silent", "--pack-destination", folder];
  execFileSync("npm", args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
}

interface LockedPackage {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly peer?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** Folders of the packages that an installation needs, as the lock file has them, and those that builds from source fetch. */
function neededPackages(root: string): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, LockedPackage>;
  };
  const installed = Object.entries(packages).flatMap(([path, { dev, devOptional, peer }]) =>
    path === "" || dev || devOptional || peer ? [] : [path],
  );
  const needed = new Set(installed);
  const add = (path: string): void => {
    if (needed.has(path)) return;
    needed.add(path);
    for (const name of Object.keys(packages[path]?.dependencies ?? {})) {
      const inside = `${path}/node_modules/${name}`;
      add(inside in packages ? inside : `node_modules/${name}`);
    }
  };
  add("node_modules/cmake-js");
  return [...needed].filter((path) => existsSync(join(root, path)));
}
