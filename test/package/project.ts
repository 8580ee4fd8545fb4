import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../..", import.meta.url));

/** The working folder of one test file; its path has spaces and letters beyond ASCII on purpose. */
export class Workspace {
  readonly path = mkdtempSync(join(tmpdir(), "moe päckage 日本 "));

  /** A new empty project. */
  project(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path);
    writeFileSync(join(path, "package.json"), JSON.stringify({ name: "user", private: true }));
    return path;
  }

  remove(): void {
    rmSync(this.path, { recursive: true });
  }
}

/** The environment without the variables that an outer `npm test` adds, as in a user's shell. */
const userEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_|^INIT_CWD$/i.test(name)),
);

/** Runs a program and returns its output as text. */
export function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): Result {
  const options = { cwd, env: { ...userEnvironment, ...env }, encoding: "utf8", maxBuffer: 2 ** 26 } as const;
  return spawnSync(command, args, options);
}

export type Result = SpawnSyncReturns<string>;

/** Like {@link run}, but throws unless the program succeeds; returns its standard output. */
export function succeed(...call: Parameters<typeof run>): string {
  const { status, error, stdout, stderr } = run(...call);
  if (status !== 0) throw new Error(`${call[0]} ${call[1].join(" ")}: ${error ?? status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** A registry in a process of its own, as tests wait for programs without an event loop. */
export class Registry {
  readonly url: string;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, url: string) {
    this.#process = process;
    this.url = url;
  }

  /** Serves the tarballs of a folder. */
  static async start(folder: string): Promise<Registry> {
    const program = join(repository, "build", "bench", "install", "registry.js");
    const child = spawn(process.execPath, [program, folder], { stdio: ["ignore", "pipe", "inherit"] });
    const [url] = await once(child.stdout, "data");
    return new Registry(child, String(url).trim());
  }

  stop(): void {
    this.#process.kill();
  }
}

/** The environment of a machine with Node and a shell, but without CMake and a compiler. */
export function withoutBuildTools(workspace: Workspace): NodeJS.ProcessEnv {
  const bin = join(workspace.path, "bin");
  mkdirSync(bin);
  for (const name of ["node", "npm", "sh", "tar", "env"]) {
    const found = (process.env.PATH ?? "").split(delimiter).find((folder) => existsSync(join(folder, name)));
    if (found) succeed("ln", ["-s", join(found, name), join(bin, name)], dirname(bin));
  }
  return { PATH: bin, CXX: "" };
}
