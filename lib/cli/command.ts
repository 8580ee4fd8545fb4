import { type ParseArgsConfig, parseArgs } from "node:util";
import { nearestHint } from "../core/input/nearest_name.js";
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
  try {
    const parsed = parseArgs({
      args: emptyValues(args, options),
      options,
      strict: true,
      allowPositionals: argument !== undefined,
      tokens: true,
    });
    checkOptions(parsed.tokens, options);
    checkArguments(parsed.positionals, argument);
    return parsed;
  } catch (error) {
    throw new UsageError(withHint((error as Error).message.replace(/\. To specify a positional.*/s, ""), options));
  }
}

/** Refuses too few or too many arguments, and empty ones. */
function checkArguments(given: readonly string[], argument: string | undefined): void {
  const several = argument?.endsWith("...") ?? false;
  const names = argument?.split(" ") ?? [];
  if (!(several ? given.length > 0 : given.length === names.length)) {
    const wanted = names.length === 1 ? `${several ? "at least " : ""}one ${argument}` : names.join(" and ");
    throw new Error(`expected ${wanted}, got ${given.length === 0 ? "none" : given.length}`);
  }
  const empty = given.indexOf("");
  if (empty >= 0) throw new Error(`expected ${pathText(names[several ? 0 : empty] as string)}, got ""`);
}

/** What of a token of `parseArgs` is read. */
interface Token {
  readonly kind: string;
  readonly name?: string;
  readonly value?: string | undefined;
}

/** Refuses options of which only the last value would count, and paths that are empty. */
function checkOptions(tokens: readonly Token[], options: Options): void {
  const seen = new Map<string, string>();
  for (const { kind, name = "", value } of tokens) {
    if (kind !== "option" || value === undefined) continue;
    const { value: names = "", multiple } = options[name] ?? {};
    const before = seen.get(name);
    if (before !== undefined && !multiple) {
      throw new Error(`--${name}: expected one value, got "${before}" and "${value}"`);
    }
    seen.set(name, value);
    if (value === "" && Object.hasOwn(pathTexts, names)) {
      throw new Error(`--${name}: expected ${pathText(names)}, got ""`);
    }
  }
}

/** What the names of values and arguments stand for, where those are paths. */
const pathTexts: Readonly<Record<string, string>> = {
  DIR: "the name of a directory",
  FILE: "the name of a file",
  PATH: "the name of a folder or a file",
  "DIR|FILE": "the name of a directory or a file",
};

/** @param name such as FILE, `FILE...` and BEFORE.json. */
function pathText(name: string): string {
  return pathTexts[name.replace(/\.{3}$/, "")] ?? `the name of the file ${name}`;
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
