import { type ChildProcessByStdio, spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { printable } from "#lib/core/text/printable.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { type Contender, PeerError } from "./contender.js";
import type { Command } from "./peers.js";

/** The only argument of a peer's program, as JSON. */
export interface PeerSetup {
  /** Which of the program's implementations to run. */
  readonly variant: string;
  /** The directory of the problem's file; the peer may write to it. */
  readonly directory: string;
  /** Name of the problem's file. */
  readonly weights: string;
  readonly config: MoeLayerConfig;
  readonly threads: number;
  /** How many times to load the layer; call number n of a turn uses copy n % copies. */
  readonly copies: number;
  /** A call is a forward with its router and a backward, and outputs are gradients: see `gradientSizes`. */
  readonly training: boolean;
}

/**
 * A peer in a separate process, with its own memory and threads. The program writes one line of JSON,
 * `{"result": ...}`, when it is ready (its version), and one in answer to every line that it reads:
 *
 *     {"name": "outputs", "tokens": T, "path": file}    writes all outputs to the file, as float32; result null
 *     {"name": "time", "tokens": T, "seconds": least}   result: seconds of every call, timed inside the program,
 *                                                      which rotates over the inputs and over its copies of the layer
 *     {"name": "kept", "tokens": T}                    result: bytes that the first input's forward keeps for backward
 *
 * It exits at the end of its input. A peer that fails says why on standard error and exits.
 */
export class PeerProcess implements Contender {
  readonly name: string;
  version = "";
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #answers: AsyncIterator<string>;
  /** Resolves to why the process ended. */
  readonly #end: Promise<string>;
  readonly #setup: PeerSetup;

  private constructor(name: string, command: Command, setup: PeerSetup) {
    this.name = name;
    this.#setup = setup;
    const [program, ...args] = command;
    const child = spawn(program, [...args, JSON.stringify(setup)], {
      env: environment(setup.threads),
      stdio: ["pipe", "pipe", "inherit"],
    });
    child.stdin.on("error", () => {}); // writing to a process that has exited; the missing answer reports it
    const lines = createInterface({ input: child.stdout });
    this.#answers = lines[Symbol.asyncIterator]();
    this.#end = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
      child.once("error", ({ message }) => {
        lines.close();
        resolve(message);
      });
    });
    this.#child = child;
  }

  /** Starts a peer and waits until its layer is loaded. */
  static async start(name: string, command: Command, setup: PeerSetup): Promise<PeerProcess> {
    const peer = new PeerProcess(name, command, setup);
    try {
      peer.version = (await peer.#answer()) as string;
      return peer;
    } catch (error) {
      peer[Symbol.dispose]();
      throw error;
    }
  }

  async outputs(tokens: number): Promise<Float32Array> {
    const path = join(this.#setup.directory, "outputs.bin");
    await this.#request({ name: "outputs", tokens, path });
    const { buffer, byteOffset, byteLength } = readFileSync(path);
    rmSync(path);
    return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
  }

  async time(tokens: number, seconds: number): Promise<number[]> {
    return (await this.#request({ name: "time", tokens, seconds })) as number[];
  }

  async kept(tokens: number): Promise<number> {
    return (await this.#request({ name: "kept", tokens })) as number;
  }

  #request(command: object): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    return this.#answer();
  }

  async #answer(): Promise<unknown> {
    const { done, value } = await this.#answers.next();
    if (done) throw new PeerError(`${this.name} ended early: ${await this.#end}`);
    try {
      return (JSON.parse(value) as { result: unknown }).result;
    } catch {
      throw new PeerError(`${this.name}: expected a line of JSON, got ${printable(value)}`);
    }
  }

  /** Ends the process. */
  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

/** OpenBLAS and OpenMP settings for this machine and these threads, regardless of the caller's environment. */
function environment(threads: number): NodeJS.ProcessEnv {
  const { OPENBLAS_CORETYPE, OPENBLAS_L2_SIZE, ...others } = process.env;
  return { ...others, OMP_NUM_THREADS: String(threads) };
}
