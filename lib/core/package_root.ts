import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MoeError } from "./errors.js";

// In a bundle, this module's own path does not lead to the package, and CommonJS bundles have no import.meta.url. The
// package is then resolved as the application would resolve it: from the bundle's folder, the program's folder and the
// working directory. Nothing here runs at import, so a bundle can always be imported.

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

function candidates(): string[] {
  const here = import.meta.url
    ? fileURLToPath(import.meta.url)
    : typeof __filename === "string"
      ? __filename
      : undefined;
  const places = [here, process.argv[1], join(process.cwd(), "file.js")].filter((path) => path !== undefined);
  const own = here === undefined ? [] : [join(dirname(here), "..", "..")];
  return [...own, ...places.flatMap(installedFor)];
}

/** The folder in which the module at `path` finds the package, if any. */
function installedFor(path: string): string[] {
  try {
    return [dirname(createRequire(path).resolve(`${packageName}/package.json`))];
  } catch {
    return [];
  }
}

function isPackage(folder: string): boolean {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name === packageName;
  } catch {
    return false;
  }
}
