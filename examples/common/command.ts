import { accessSync, constants } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { isMoeError, openDevice } from "moe-kernels";

/** A wrong command line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** An option with a value: its default, and what it is. */
export type Defaults = Readonly<Record<string, string | undefined>>;

/** The values of a command line. */
export class Values {
  readonly #given: Readonly<Record<string, string>>;
  readonly #texts: Defaults;
  readonly #flags: ReadonlySet<string>;
  /** The options that name files to write, by the files' paths. */
  readonly #outputs = new Map<string, string>();

  constructor(defaults: Defaults, given: Readonly<Record<string, string>>, flags: ReadonlySet<string>) {
    this.#given = given;
    this.#texts = { ...defaults, ...given };
    this.#flags = flags;
  }

  /** Whether an option has its value from the command line. */
  given(name: string): boolean {
    return Object.hasOwn(this.#given, name);
  }

  flag(name: string): boolean {
    return this.#flags.has(name);
  }

  text(name: string): string | undefined {
    return this.#texts[name];
  }

  /** The text of an option that must be given. */
  needed(name: string, hint: string): string {
    const text = this.#texts[name];
    if (text !== undefined) return text;
    throw new UsageError(`--${name}: expected ${hint}, got none`);
  }

  /** The path of a file to write, if one is given; refused before the work if its folder is not there, or if another option names it. */
  output(name: string): string | undefined {
    const path = this.#texts[name];
    if (path === undefined) return undefined;
    const other = this.#outputs.get(resolve(path));
    if (other !== undefined) {
      throw new UsageError(`--${name}: expected another file than that of --${other}, got "${path}" for both`);
    }
    this.#outputs.set(resolve(path), name);
    try {
      accessSync(dirname(path), constants.W_OK);
      return path;
    } catch (cause) {
      const message = `--${name}: expected a file in a folder that is there and writable, got "${path}"`;
      throw new UsageError(message, { cause });
    }
  }

  integer(name: string, minimum = 1): number {
    const value = this.number(name);
    if (Number.isSafeInteger(value) && value >= minimum) return value;
    throw new UsageError(`--${name}: expected an integer >= ${minimum}, got "${this.#texts[name]}"`);
  }

  number(name: string): number {
    const text = this.#texts[name] ?? "";
    const value = Number(text);
    if (text.trim() !== "" && Number.isFinite(value)) return value;
    throw new UsageError(`--${name}: expected a number, got "${text}"`);
  }

  choice<T extends string>(name: string, choices: readonly T[]): T {
    const found = choices.find((choice) => choice === this.#texts[name]);
    if (found !== undefined) return found;
    throw new UsageError(`--${name}: expected one of ${choices.join(", ")}, got "${this.#texts[name]}"`);
  }
}

export interface Command {
  /** Its npm script. */
  readonly name: string;
  readonly help: string;
  /** Options with values, and their defaults. */
  readonly options: Defaults;
  readonly flags: readonly string[];
  run(values: Values): Promise<void>;
}

/** Runs a command. What a user can cause ends it with one line. */
export async function runCommand({ name, help, options, flags, run }: Command): Promise<void> {
  try {
    const { values } = parseArgs({
      options: {
        ...Object.fromEntries(Object.keys(options).map((option) => [option, { type: "string" as const }])),
        ...Object.fromEntries(["help", ...flags].map((flag) => [flag, { type: "boolean" as const }])),
      },
    });
    if (values.help) {
      process.stdout.write(help);
      return;
    }
    const given = Object.entries(values);
    const texts = Object.fromEntries(given.filter(([, value]) => typeof value === "string")) as Record<string, string>;
    const set = given.filter(([, value]) => value === true).map(([key]) => key);
    await run(new Values(options, texts, new Set(set)));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const known = isMoeError(error) || error instanceof UsageError || error instanceof RangeError;
    // ENOENT and what else a path may lead to.
    const ofSystem = /^E[A-Z]+$/.test(code ?? "");
    if (!known && !code?.startsWith("ERR_PARSE_ARGS") && !ofSystem) throw error;
    process.stderr.write(`${name}: ${message}\n`);
    process.exitCode = 1;
  }
}

/** Options of the device. */
export const deviceOptions = { device: "cpu", threads: undefined } satisfies Defaults;
export const deviceHelp = `  --device NAME          cpu, reference, ... (cpu)
  --threads N            threads of the device (all CPUs)
`;

export function openGivenDevice(values: Values) {
  const threads = values.text("threads") === undefined ? {} : { threads: values.integer("threads") };
  return openDevice(values.text("device") as "cpu", threads);
}
