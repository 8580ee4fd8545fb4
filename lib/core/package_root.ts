import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MoeError } from "./errors.js";

// A bundler moves this code into another file, where this module's own path says nothing of the package, and CommonJS
// bundles have no import.meta.url. The package is then looked for as the application would: from the bundle's folder, that of the
// program, and the working directory. Nothing here runs before it is asked for, so that a bundle can always be imported.

const packageName = "moe-kernels";

let found: string | undefined;

/** This package's own folder, where package.json is; undefined in a bundle that runs where it is not installed. */
export function findPackage(): string | undefined {
  found ??= candidates().find(isPackage);
  return found;
}

/** The same, for what needs files of the package. @throws NOT_BUILT where it is not installed. */
export function packageRoot(): string {
  const root = findPackage();
  if (root !== undefined) return root;
  throw new MoeError(
    "NOT_BUILT",
    `the package ${packageName} is not installed where this program runs: npm install it`,
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

/** Where the package is installed for the module at `path`. */
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
