import { type ParseArgsConfig, parseArgs } from "node:util";
import { nearestHint } from "../core/nearest_name.js";
import { UsageError } from "../terminal/option_values.js";
import { aboutOptions, typedNames } from "./about_options.js";
import type { Io } from "./io.js";

type OptionConfig = NonNullable<ParseArgsConfig["options"]>[string];

/** An option as `parseArgs` takes it, with its help text. */
export type Option = OptionConfig & {
  /** Name of the value in the help, such as `FILE`, in brackets if it is optional; absent for switches. */
  readonly value?: string;
  readonly help: string;
};

export type Options = Readonly<Record<string, Option>>;

type Parsed<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>["values"];

/** A command in the list of commands. What it does is loaded when it is asked for: no command needs the whole package. */
export interface ListedCommand {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  load(): Promise<Command>;
}

/** What a command takes and does. */
export interface Command {
  /** What follows the command's name in the usage line. */
  readonly synopsis: string;
  readonly options: Options;
  /** Runs with the arguments after the command's name; resolves to the exit code. */
  run(args: readonly string[], io: Io): Promise<number>;
}

/** Options that every command has. */
const commonOptions = {
  help: { type: "boolean", short: "h", help: "show this help" },
  verbose: { type: "boolean", help: "show the stack of an error" },
} as const satisfies Options;

/**
 * A command whose `run` gets parsed options and the arguments that `argument` names: one, several with a space between their
 * names, or with a name such as `FILE...` one or more. An unknown option, or a stray or missing argument, is a
 * {@link UsageError}, and so is what a function finds wrong with an option's value. `parameters` are those of functions that are
 * not called as the option that they get, with what is typed.
 */
export function defineCommand<const O extends Options>(command: {
  synopsis: string;
  argument?: string;
  options: O;
  parameters?: Readonly<Record<string, `--${keyof O & string}`>>;
  run(values: Parsed<O>, io: Io, argument: string, ...others: string[]): Promise<number>;
}): Command {
  const options: Options = { ...command.options, ...commonOptions };
  const typedName = typedNames(options, command.parameters ?? {});
  return {
    ...command,
    options,
    run: async (args, io) => {
      const { values, positionals } = parse(args, options, command.argument);
      const [argument = "", ...others] = positionals;
      try {
        return await command.run(values as Parsed<O>, io, argument, ...others);
      } catch (error) {
        throw aboutOptions(error, typedName);
      }
    },
  };
}

function parse(
  args: readonly string[],
  options: Options,
  argument: string | undefined,
): { values: object; positionals: readonly string[] } {
  const allowPositionals = argument !== undefined;
  try {
    const parsed = parseArgs({ args: emptyValues(args, options), options, strict: true, allowPositionals });
    const { length } = parsed.positionals;
    const several = argument?.endsWith("...") ?? false;
    const names = argument?.split(" ") ?? [];
    if (several ? length > 0 : length === names.length) return parsed;
    const wanted = names.length === 1 ? `${several ? "at least " : ""}one ${argument}` : names.join(" and ");
    throw new Error(`expected ${wanted}, got ${length === 0 ? "none" : length}`);
  } catch (error) {
    throw new UsageError(withHint((error as Error).message.replace(/\. To specify a positional.*/s, ""), options));
  }
}

/** The message of `parseArgs` about an unknown option, with the option that it may misspell. */
function withHint(message: string, options: Options): string {
  const [, given] = /^Unknown option '--([^']+)'$/.exec(message) ?? [];
  return given === undefined ? message : message + nearestHint(given, Object.keys(options), (name) => `--${name}`);
}

/** Adds an empty value to options whose optional value was left out. */
function emptyValues(args: readonly string[], options: Options): string[] {
  return args.map((arg, index) => {
    const optional = arg.startsWith("--") && options[arg.slice(2)]?.value?.startsWith("[");
    return optional && (args[index + 1] ?? "-").startsWith("-") ? `${arg}=` : arg;
  });
}
