import type { Command, ListedCommand, Options } from "./command.js";

const programName = "moe-kernels";

/** Help for the whole program: its commands. */
export function programHelp(commands: readonly ListedCommand[]): string {
  return [
    `Usage: ${programName} <command> [options]`,
    "",
    "Mixture-of-experts kernels: inspect this machine, run layers, verify every operator.",
    "",
    "Commands:",
    ...align(commands.map(({ name, summary }) => [name, summary])),
    "",
    "Options:",
    ...align([
      ["-h, --help", "show this help, or a command's help after its name, as help COMMAND does"],
      ["-V, --version", "show the version"],
    ]),
    "",
  ].join("\n");
}

/** Help for one command: its options. */
export function commandHelp({ name, summary }: ListedCommand, command: Command): string {
  return [
    usageLine(name, command),
    "",
    `${summary[0]?.toUpperCase()}${summary.slice(1)}.`,
    "",
    "Options:",
    ...align(optionRows(command.options)),
    "",
  ].join("\n");
}

/** The usage line, also shown after a wrong command line. */
export function usageLine(name: string, { synopsis }: Command): string {
  return `Usage: ${programName} ${name} ${synopsis}`.trimEnd();
}

function optionRows(options: Options): [string, string][] {
  return Object.entries(options).map(([name, { short, value, help }]) => [
    `${short ? `-${short}, ` : ""}--${name}${value ? ` ${value}` : ""}`,
    help,
  ]);
}

function align(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}
