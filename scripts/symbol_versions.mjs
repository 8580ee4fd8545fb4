// Which versions of the system's libraries a binary needs.
import { spawnSync } from "node:child_process";

/**
 * The newest version of each library that symbols of an ELF file name, such as { GLIBC: "2.34" }. A system with an older
 * library does not load the file.
 */
export function symbolVersions(file) {
  const { status, error, stdout, stderr } = spawnSync("objdump", ["-T", file], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (error || status !== 0) throw new Error(`objdump -T ${file}: ${error?.message ?? stderr}`);
  return newestVersions(stdout);
}

/** The same of the output of `objdump -T`. */
export function newestVersions(symbols) {
  const newest = {};
  for (const [, library, version] of symbols.matchAll(/\*UND\*.*?\(?\b([A-Z]+)_([\d.]+)\)?\s/g)) {
    if (newest[library] === undefined || newerThan(version, newest[library])) newest[library] = version;
  }
  return newest;
}

export function newerThan(version, other) {
  const [parts, others] = [version, other].map((text) => text.split(".").map(Number));
  const at = parts.findIndex((part, place) => part !== (others[place] ?? 0));
  return at >= 0 && parts[at] > (others[at] ?? 0);
}
