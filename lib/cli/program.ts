import { styleText } from "node:util";
import { packageVersion } from "../core/addon/version.js";
import { MoeError } from "../core/errors.js";
import { nearestHint } from "../core/input/nearest_name.js";
import { isMemoryRefusal } from "../core/tensors/allocated.js";
import { printable } from "../core/text/printable.js";
import { UsageError } from "../terminal/option_values.js";
import type { ListedCommand } from "./command.js";
import { commandList } from "./command_list.js";
import { commandHelp, programHelp, usageLine } from "./help.js";
import type { Io } from "./io.js";

/**
 * Runs the command line.
 * @param argv the arguments after the program's name.
 * @returns the exit code: 0 for success, 1 for an error or a result outside its tolerance, 2 for a wrong command line.
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const [first] = argv;
  if (first === "help" && argv.length > 1) return run([...argv.slice(1), "--help"], io);
  if (first === undefined || first === "--help" || first === "-h" || first === "help") {
    io.stdout.write(programHelp(commandList));
    return 0;
  }
  if (first === "--version" || first === "-V") {
    io.stdout.write(`${packageVersion}\n`);
    return 0;
  }
  const two = commandList.find(({ name }) => name === `${first} ${argv[1]}`);
  const listed = two ?? commandList.find(({ name }) => name === first);
  if (listed === undefined) {
    const kind = first.startsWith("-") ? "option" : "command";
    const names = commandList.map(({ name }) => name);
    const unknown = `unknown ${kind} "${first}"${nearestHint(first, names)}`;
    return fail(io, unknown, `Commands: ${names.join(", ")}. See moe-kernels --help.`, 2);
  }
  const rest = argv.slice(listed.name.split(" ").length);
  try {
    return await runListed(listed, rest, io);
  } catch (thrown) {
    const error = isMemoryRefusal(thrown) ? tooLarge(thrown) : thrown;
    const known = error instanceof MoeError;
    const stack = !known || rest.includes("--verbose") ? stackOf(error) : undefined;
    return fail(io, known ? `${error.code}: ${error.message}` : String(error), stack, 1);
  }
}

async function runListed(listed: ListedCommand, rest: readonly string[], io: Io): Promise<number> {
  const command = await listed.load();
  if (rest.includes("--help") || rest.includes("-h")) {
    io.stdout.write(commandHelp(listed, command));
    return 0;
  }
  try {
    return await command.run(rest, io);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return fail(io, error.message, `${usageLine(listed.name, command)}\nSee moe-kernels ${listed.name} --help.`, 2);
  }
}

/** The error for sizes that nothing before has refused. */
function tooLarge(cause: RangeError): MoeError {
  const message = `expected sizes that fit into memory, got some that do not (${cause.message}); give smaller ones`;
  return new MoeError("OUT_OF_MEMORY", message, { cause });
}

/** The stacks of an error and of its causes. */
function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const cause = stackOf(error.cause);
  return cause === undefined ? error.stack : `${error.stack}\nCaused by ${cause}`;
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
