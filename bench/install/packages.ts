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

/** Folders of the packages that an installation needs, as the lock file has them. */
function neededPackages(root: string): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean; peer?: boolean }>;
  };
  return Object.entries(packages).flatMap(([path, { dev, devOptional, peer }]) =>
    path === "" || dev || devOptional || peer || !existsSync(join(root, path)) ? [] : [path],
  );
}
