import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { packageRoot } from "../../lib/core/addon/package_root.js";

/** A process of `moe-kernels serve`. */
export class ServingProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  stdout = "";
  stderr = "";

  /** @param args after `serve`. */
  constructor(args: readonly string[], cwd = packageRoot()) {
    const program = join(packageRoot(), "dist", "cli", "main.js");
    this.#child = spawn(process.execPath, [program, "serve", ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] });
    this.#ended = once(this.#child, "close");
    for (const name of ["stdout", "stderr"] as const) {
      this.#child[name]?.setEncoding("utf8").on("data", (text: string) => {
        this[name] += text;
      });
    }
  }

  /** The address that it prints when it serves; rejects if it ends before. */
  async address(): Promise<string> {
    for (;;) {
      const [, address] = / at (\S+), /.exec(this.stdout) ?? [];
      if (address !== undefined) return address;
      const next = once(this.#child.stdout as NodeJS.ReadableStream, "data");
      if ((await Promise.race([next, this.#ended.then(() => "ended")])) === "ended") throw new Error(this.stderr);
    }
  }

  /** Ends it, and resolves to its exit code and signal. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<unknown> {
    this.#child.kill(signal);
    return await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}
