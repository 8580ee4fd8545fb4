import { Writable } from "node:stream";
import { WriteStream } from "node:tty";
import { run } from "../../../lib/cli/program.js";

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line in this process, writing to a pipe or, with `terminal`, to a terminal of 80 columns. */
export async function runCli(args: readonly string[], { terminal = false } = {}): Promise<CliResult> {
  const stdout = new Capture(terminal);
  const stderr = new Capture(terminal);
  const exitCode = await run(args, { stdout, stderr });
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}

class Capture extends Writable {
  readonly isTTY: boolean;
  readonly columns = 80;
  text = "";

  constructor(isTTY: boolean) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  getColorDepth(): number {
    return WriteStream.prototype.getColorDepth.call(this);
  }

  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.text += chunk;
    done();
  }
}
