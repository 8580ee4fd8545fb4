import { readdirSync, statSync } from "node:fs";

/** The files of a folder and those in it, in order, without what npm installed there; of a file, itself. */
export function listFiles(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => name !== "node_modules")
    .sort()
    .flatMap((name) => listFiles(`${path}/${name}`));
}
