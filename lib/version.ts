import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "./native.js";

/** The version in package.json. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return version;
}
