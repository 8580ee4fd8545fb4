import { styleText } from "node:util";
import { MoeError } from "../core/errors.js";
import { printable } from "../core/printable.js";
import { packageVersion } from "../core/version.js";
import { UsageError } from "../terminal/option_values.js";
import type { Command } from "./command.js";
import { bench } from "./commands/bench.js";
import { benchCompare } from "./commands/bench_compare.js";
import { demo } from "./commands/demo.js";
import { info } from "./commands/info.js";
import { inspect } from "./commands/inspect.js";
import { offloadTrace } from "./commands/offload_trace.js";
import { quantizeModel } from "./commands/quantize.js";
import { runLayer } from "./commands/run.js";
import { verify } from "./commands/verify.js";
import { commandHelp, programHelp, usageLine } from "./help.js";
import type { Io } from "./io.js";

const commands: readonly Command[] = [
  info,
  inspect,
  runLayer,
  quantizeModel,
  verify,
  bench,
  benchCompare,
  offloadTrace,
  demo,
];

/**
 * Runs the command line.
 * @param argv the arguments after the program's name.
 * @returns the exit code: 0 for success, 1 for an error or a result outside its tolerance, 2 for a wrong command line.
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const [first] = argv;
  if (first === undefined || first === "--help" || first === "-h" || first === "help") {
    io.stdout.write(programHelp(commands));
    return 0;
  }
  if (first === "--version" || first === "-V") {
    io.stdout.write(`${packageVersion}\n`);
    return 0;
  }
  const two = commands.find(({ name }) => name === `${first} ${argv[1]}`);
  const command = two ?? commands.find(({ name }) => name === first);
  if (command === undefined) {
    const kind = first.startsWith("-") ? "option" : "command";
    const known = commands.map(({ name }) => name).join(", ");
    return fail(io, `unknown ${kind} "${first}"`, `Commands: ${known}. See moe-kernels --help.`, 2);
  }
  const rest = argv.slice(command.name.split(" ").length);
  if (rest.includes("--help") || rest.includes("-h")) {
    io.stdout.write(commandHelp(command));
    return 0;
  }
  try {
    return await command.run(rest, io);
  } catch (error) {
    if (error instanceof UsageError) {
      return fail(io, error.message, `${usageLine(command)}\nSee moe-kernels ${command.name} --help.`, 2);
    }
    const known = error instanceof MoeError;
    const stack = !known || rest.includes("--verbose") ? (error as Error)?.stack : undefined;
    return fail(io, known ? `${error.code}: ${error.message}` : String(error), stack, 1);
  }
}

function fail(io: Io, message: string, detail: string | undefined, exitCode: number): number {
  io.stderr.write(`${styleText("red", "moe-kernels:", { stream: io.stderr })} ${printableLines(message)}\n`);
  if (detail !== undefined) io.stderr.write(`${printableLines(detail)}\n`);
  return exitCode;
}

/** Line breaks are our own: those from files and arguments are escaped where they are quoted. */
function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}
