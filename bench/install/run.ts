import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine } from "#lib/bench/machine.js";
import { summarize } from "#lib/bench/measure.js";
import { integerOption } from "#lib/terminal/option_values.js";
import { outputOption } from "#lib/terminal/output_file.js";
import { renderTable } from "#lib/terminal/table.js";
import { runProgram } from "../program.js";
import { TemporaryFolder } from "../temporary_folder.js";
import { forwardOutput, forwardProgram, type Manager, managers } from "./managers.js";
import { packAll } from "./packages.js";
import { startRegistry } from "./registry.js";

const help = `Usage: npm run bench:install -- [options]

Times the installation of the packed packages into an empty project with npm and pnpm, from a registry on this machine,
with empty and with filled caches, and a first program that opens the cpu device and runs a layer.

Options:
  --rounds N         installations of each kind (5)
  --addon FILE       pack this addon instead of building one as npm run prebuild does
  --json FILE        also write the results to FILE
  -h, --help         show this help
`;

interface Options {
  readonly rounds: number;
  readonly addon: string | undefined;
  readonly json: string | undefined;
}

interface Result {
  readonly manager: string;
  readonly caches: "empty" | "filled";
  /** Seconds, median over the rounds. */
  readonly install: number;
  readonly worst: number;
  readonly firstProgram: number;
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "5" },
      addon: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  return { rounds: integerOption("rounds", values.rounds, 1), addon: values.addon, json: values.json };
}

/** Runs a program; returns its output and the seconds that it took. */
async function time(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<{ output: string; seconds: number }> {
  const start = performance.now();
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let [output, errors] = ["", ""];
  child.stdout.on("data", (text) => {
    output += text;
  });
  child.stderr.on("data", (text) => {
    errors += text;
  });
  const status = await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject));
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: exit code ${status}\n${output}${errors}`);
  return { output, seconds: (performance.now() - start) / 1000 };
}

/** Installs into a new project, and runs the program there. */
async function installOnce(manager: Manager, registry: string, caches: string, project: string) {
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{ "name": "user", "private": true }');
  writeFileSync(join(project, "forward.mjs"), forwardProgram);
  const [command, ...args] = manager.install("moe-kernels", registry, caches);
  const install = await time(command, args, project);
  const program = await time(process.execPath, ["forward.mjs"], project);
  if (program.output !== forwardOutput) throw new Error(`expected ${forwardOutput}, got ${program.output}`);
  rmSync(project, { recursive: true });
  return { install: install.seconds, program: program.seconds };
}

async function measureManager(manager: Manager, registry: string, folder: string, rounds: number): Promise<Result[]> {
  const caches = join(folder, `caches of ${manager.name}`);
  const kinds = { empty: [] as Times[], filled: [] as Times[] };
  for (let round = 0; round < rounds; round++) {
    rmSync(caches, { recursive: true, force: true });
    for (const times of [kinds.empty, kinds.filled]) {
      times.push(await installOnce(manager, registry, caches, join(folder, "project")));
    }
  }
  return (["empty", "filled"] as const).map((name) => {
    const installs = kinds[name].map(({ install }) => install);
    const programs = kinds[name].map(({ program }) => program);
    return {
      manager: manager.name,
      caches: name,
      install: summarize(installs).median,
      worst: Math.max(...installs),
      firstProgram: summarize(programs).median,
    };
  });
}

type Times = Awaited<ReturnType<typeof installOnce>>;

async function run({ rounds, addon, json }: Options): Promise<void> {
  const written = await outputOption("json", json);
  using temporary = new TemporaryFolder("moe-install-");
  const folder = temporary.path;
  const packages = join(folder, "packages");
  packAll(packages, addon);
  const { url, server } = await startRegistry(packages);
  const results: Result[] = [];
  try {
    for (const manager of managers) results.push(...(await measureManager(manager, url, folder, rounds)));
  } finally {
    server.close();
  }
  process.stdout.write(`${table(results)}\n`);
  await written?.write(`${JSON.stringify({ machine: describeMachine(1), rounds, results }, null, 2)}\n`);
}

function table(results: readonly Result[]): string {
  return renderTable(
    [
      { heading: "" },
      { heading: "caches" },
      { heading: "install, s", align: "right" },
      { heading: "slowest, s", align: "right" },
      { heading: "first program, s", align: "right" },
    ],
    results.map(({ manager, caches, install, worst, firstProgram }) => [
      manager,
      caches,
      ...[install, worst, firstProgram].map((seconds) => seconds.toFixed(2)),
    ]),
  );
}

await runProgram({ name: "bench:install", help, parse: parseOptions, run });
