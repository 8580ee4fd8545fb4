import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MoeError } from "../errors.js";

// In a bundle, this module's own path does not lead to the package, and CommonJS bundles have no import.meta.url. The
// package is then resolved as the application would resolve it: from the bundle's folder and the program's folder,
// never from the working directory: a folder that somebody downloaded must not give a program native code. Nothing here
// runs at import, so a bundle can always be imported.

const packageName = "moe-kernels";

let found: string | undefined;

/** The folder of this package's package.json; undefined in a bundle that runs where the package is not installed. */
export function findPackage(): string | undefined {
  found ??= candidates().find(isPackage);
  return found;
}

/** As {@link findPackage}, for callers that need the package's files. @throws NOT_BUILT if it is not installed. */
export function packageRoot(): string {
  const root = findPackage();
  if (root !== undefined) return root;
  throw new MoeError(
    "NOT_BUILT",
    `the package ${packageName} is not installed where this program runs; run npm install ${packageName} there`,
  );
}

/** The path of a file of an installed package, such as `name/package.json`, as this package or the program would find it. */
export function resolveInstalled(request: string): string | undefined {
  const root = findPackage();
  const places = [...(root === undefined ? [] : [join(root, "package.json")]), ...programPlaces()];
  return places.map((place) => resolveFrom(place, request)).find((path) => path !== undefined);
}

function candidates(): string[] {
  const own = thisFile();
  const request = `${packageName}/package.json`;
  const installed = programPlaces().map((place) => resolveFrom(place, request));
  return [
    ...(own === undefined ? [] : [join(dirname(own), "..", "..")]),
    ...installed.filter((path) => path !== undefined).map((path) => dirname(path)),
  ];
}

/** Files from which the program's packages are found: this module or the bundle, and the program. */
function programPlaces(): string[] {
  return [thisFile(), process.argv[1]].filter((path) => path !== undefined);
}

function thisFile(): string | undefined {
  if (import.meta.url) return fileURLToPath(import.meta.url);
  return typeof __filename === "string" ? __filename : undefined;
}

function resolveFrom(place: string, request: string): string | undefined {
  try {
    return createRequire(place).resolve(request);
  } catch {
    return undefined;
  }
}

function isPackage(folder: string): boolean {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name === packageName;
  } catch {
    return false;
  }
}
