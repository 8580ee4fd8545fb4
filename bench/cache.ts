import { parseArgs } from "node:util";
import { measureCeilings } from "#lib/bench/ceilings.js";
import { describeMachine } from "#lib/bench/machine.js";
import { summarize } from "#lib/bench/measure.js";
import { type NamedShape, shapeNames, shapeOptions } from "#lib/bench/shape_option.js";
import type { CacheOptions } from "#lib/checkpoint/cache/cache_option.js";
import type { Device } from "#lib/core/device/device.js";
import { openDevice } from "#lib/devices.js";
import { MoeLayer } from "#lib/moe_layer.js";
import { formatBytes, formatMicroseconds, significant } from "#lib/terminal/format.js";
import { integerOption, listOption } from "#lib/terminal/option_values.js";
import { renderTable } from "#lib/terminal/table.js";
import { randomTokens } from "#lib/testing/inputs/random_layer.js";
import { writeMixtral } from "./mixtral.js";
import { runProgram, threadsOption } from "./program.js";
import { TemporaryFolder } from "./temporary_folder.js";

const help = `Usage: npm run bench:cache -- [options]

Loads a layer from a checkpoint, without and with its cache of packed weights, and prints the times of the loads and of
the first forwards after them.

Options:
  --shape NAMES      ${shapeNames} (A)
  --tokens NUMBERS   tokens of a forward (1)
  --rounds N         (9)
  --threads N        threads of the device (all CPUs)
  -h, --help         show this help
`;

type Cache = boolean | CacheOptions;

/** Microseconds of a load, of the first forward after it and of the next. */
type Times = readonly [load: number, first: number, next: number];

async function timed(work: () => unknown): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) * 1e3;
}

async function round(directory: string, device: Device, tokens: number, cache: Cache): Promise<Times> {
  let layer: MoeLayer | undefined;
  const load = await timed(async () => {
    layer = await MoeLayer.load(directory, { layer: 0, device, cache });
  });
  using loaded = layer as MoeLayer;
  const { hiddenSize } = loaded.description;
  using x = device.tensor(randomTokens(tokens, hiddenSize, 0), [tokens, hiddenSize], "bf16");
  using y = device.empty(x.shape, "bf16");
  const forward = () => {
    loaded.forward(x, { out: y });
    return device.synchronize();
  };
  return [load, await timed(forward), await timed(forward)];
}

async function measure({ name, config }: NamedShape, tokens: number, rounds: number, threads: number): Promise<void> {
  using temporary = new TemporaryFolder("moe-kernels-bench-");
  const directory = temporary.path;
  await writeMixtral(directory, config);
  using device = openDevice("cpu", { threads });
  let bytes = 0;
  {
    using first = await MoeLayer.load(directory, { layer: 0, device, cache: true });
    bytes = first.byteLength;
  }
  const sources: readonly [string, Cache, Times[]][] = [
    ["from the checkpoint", false, []],
    ["from the cache, mapped", true, []],
    ["from the cache, copied", { copy: true }, []],
  ];
  for (let done = 0; done < rounds; done++) {
    for (const [, cache, times] of sources) times.push(await round(directory, device, tokens, cache));
  }
  const { readGBs } = await measureCeilings({ threads });
  process.stdout.write(
    `${name} bf16, ${formatBytes(bytes)} of weights, T = ${tokens}, ${threads} threads, ` +
      `${significant(readGBs)} GB/s read; medians of ${rounds} rounds\n`,
  );
  const row = (title: string, of: readonly Times[]) => [
    title,
    ...[0, 1, 2].map((column) => formatMicroseconds(summarize(of.map((time) => time[column] as number)).median)),
  ];
  process.stdout.write(
    renderTable(
      ["", "load", "first forward", "next"].map((heading, index) => ({
        heading,
        align: index === 0 ? ("left" as const) : ("right" as const),
      })),
      sources.map(([title, , times]) => row(title, times)),
    ),
  );
}

interface Options {
  readonly shapes: readonly NamedShape[];
  readonly tokens: readonly number[];
  readonly rounds: number;
  readonly threads: number;
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", multiple: true, default: ["A"] },
      tokens: { type: "string", multiple: true, default: ["1"] },
      rounds: { type: "string", default: "9" },
      threads: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  return {
    shapes: shapeOptions(listOption("shape", values.shape)),
    tokens: listOption("tokens", values.tokens).map((count) => integerOption("tokens", count, 1)),
    rounds: integerOption("rounds", values.rounds, 1),
    threads: threadsOption(values.threads),
  };
}

async function run({ shapes, tokens, rounds, threads }: Options): Promise<void> {
  process.stdout.write(`${JSON.stringify(describeMachine(threads))}\n`);
  for (const shape of shapes) {
    for (const count of tokens) await measure(shape, count, rounds, threads);
  }
}

await runProgram({ name: "bench:cache", help, parse: parseOptions, run });
