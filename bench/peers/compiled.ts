import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { packageRoot } from "#lib/core/addon/package_root.js";
import type { Command } from "./peers.js";

/** A peer's program in C++. */
export interface CompiledProgram {
  readonly compiler: string;
  /** Folders with its sources, the first one with `main`. */
  readonly folders: readonly [string, ...string[]];
  /** The source file with its `main`. */
  readonly main: string;
  /** Where to put the program. */
  readonly program: string;
}

/** The program whose `main` is in `NAME_peer.cc` in the folder `name`. */
export function compiledProgram(name: string): CompiledProgram {
  const sources = join(packageRoot(), "bench", "peers", "programs");
  return {
    compiler: process.env.CXX ?? "g++",
    folders: [join(sources, name), join(sources, "common")],
    main: `${name}_peer.cc`,
    program: join(packageRoot(), "build", "peers", `${name}_peer`),
  };
}

/**
 * Compiles a program if a source is newer, and runs it with `--check` as its last argument.
 * @returns its command, or why this machine cannot run it.
 */
export function compiledCommand(
  { compiler, folders, main, program }: CompiledProgram,
  { options, args = [], needs }: { options: readonly string[]; args?: readonly string[]; needs?: string },
): Command | string {
  const sources = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  if (!existsSync(program) || statSync(program).mtimeMs <= newest) {
    const failure = compile(compiler, join(folders[0], main), program, options);
    if (failure !== undefined) return needs === undefined ? failure : `it needs ${needs}; ${failure}`;
  }
  const { status, signal, stderr } = spawnSync(program, [...args, "--check"], { encoding: "utf8" });
  return status === 0 ? [program, ...args] : `its check failed: ${stderr.trim() || (signal ?? `exit code ${status}`)}`;
}

/** @returns why it failed, if it did. */
function compile(compiler: string, main: string, program: string, options: readonly string[]): string | undefined {
  mkdirSync(dirname(program), { recursive: true });
  const unfinished = `${program}.${process.pid}`; // as others may compile it at the same time
  const { status, error, stderr } = spawnSync(compiler, ["-std=c++20", "-O3", main, "-o", unfinished, ...options], {
    encoding: "utf8",
  });
  if (error !== undefined) return `its compiler cannot be started (${error.message}): install g++ or set CXX`;
  if (status === 0) {
    renameSync(unfinished, program);
    return undefined;
  }
  const lines = stderr.split("\n");
  return `compiling it failed: ${lines.find((line) => /error|cannot find/.test(line)) ?? lines[0]}`;
}
