import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine } from "#lib/bench/machine.js";
import { summarize } from "#lib/bench/measure.js";
import { type NamedShape, shapeNames, shapeOption } from "#lib/bench/shape_option.js";
import type { Device } from "#lib/core/device/device.js";
import { openDevice } from "#lib/devices.js";
import type { OffloadOptions } from "#lib/layer/offload.js";
import { OffloadBudget } from "#lib/layer/offload_budget.js";
import { MoeLayer } from "#lib/moe_layer.js";
import type { Routing } from "#lib/operators/routing/gating.js";
import { formatBytes, formatMicroseconds, significant } from "#lib/terminal/format.js";
import { integerOption, listOption } from "#lib/terminal/option_values.js";
import { renderTable } from "#lib/terminal/table.js";
import { Random } from "#lib/testing/inputs/random.js";
import { randomTokens } from "#lib/testing/inputs/random_layer.js";
import { writeMixtral } from "./mixtral.js";
import { runProgram, threadsOption } from "./program.js";
import { TemporaryFolder } from "./temporary_folder.js";

const help = `Usage: npm run bench:offload -- [options]

Decodes with several layers whose experts are in mapped cache files on cpu, of which only some may be resident: the time
of one token through all layers against the share of experts that were resident when they were needed. Experts are
chosen by a Zipf law, with another order in every layer. A limit of memory is set from outside, with a control group.

Options:
  --shape NAME       ${shapeNames} (2048x768x32x4)
  --layers N         (4)
  --slots NUMBERS    experts of a layer that may be resident (all, a half, a quarter and an eighth of them)
  --shared           all layers' slots are one budget
  --tokens N         tokens that are timed, after a quarter as many that are not (64)
  --folder DIR       keep the cache files here and use them again (a temporary folder)
  --threads N        threads of the device (all CPUs)
  -h, --help         show this help
`;

interface Options {
  readonly shape: NamedShape;
  readonly layers: number;
  readonly slots: readonly number[];
  readonly shared: boolean;
  readonly tokens: number;
  readonly folder: string | undefined;
  readonly threads: number;
}

/** Loads layer `index`, whose cache file is one of its own. */
async function loadLayer(folder: string, device: Device, index: number, offload?: OffloadOptions): Promise<MoeLayer> {
  const cache = join(folder, `layer-${index}`);
  return await MoeLayer.load(join(folder, "model"), { layer: 0, device, cache, ...(offload && { offload }) });
}

/** Writes the cache files that are not there yet. Returns the bytes of all layers. */
async function prepare(folder: string, device: Device, { shape, layers }: Options): Promise<number> {
  const model = join(folder, "model");
  if (!existsSync(model)) {
    mkdirSync(model, { recursive: true });
    await writeMixtral(model, shape.config);
  }
  let bytes = 0;
  for (let index = 0; index < layers; index++) {
    using layer = await loadLayer(folder, device, index);
    bytes += layer.byteLength;
  }
  return bytes;
}

/** The choices of one token in one layer. */
function zipfRouting(device: Device, random: Random, { config }: NamedShape, layer: number): Routing {
  const { numExperts, topK } = config;
  // Frequent experts are not beside each other. Without a common divisor, every expert has a rank.
  const step = numExperts % 5 !== 0 ? 5 : numExperts % 3 !== 0 ? 3 : 1;
  const used = new Set<number>();
  while (used.size < topK) {
    const rank = Math.floor((numExperts + 1) ** random.uniform()) - 1;
    used.add((rank * step + layer * 7) % numExperts);
  }
  return {
    ids: device.tensor(Int32Array.from(used), [1, topK], "i32"),
    weights: device.tensor(new Float32Array(topK).fill(1 / topK), [1, topK], "f32"),
  };
}

/** What one number of slots gave. */
interface Result {
  readonly slots: number;
  readonly residentBytes: number;
  readonly hitRate: number;
  readonly loadedBytes: number;
  /** Microseconds of a token through all layers. */
  readonly times: readonly number[];
}

async function measure(folder: string, device: Device, options: Options, slots: number): Promise<Result> {
  const layers: MoeLayer[] = [];
  using budget = new OffloadBudget(device, { slots: slots * options.layers });
  const offload = options.shared ? { budget } : { slots };
  try {
    for (let index = 0; index < options.layers; index++) layers.push(await loadLayer(folder, device, index, offload));
    const result = await decode(layers, device, options, slots);
    return { ...result, residentBytes: result.residentBytes + budget.byteLength };
  } finally {
    for (const layer of layers) layer.dispose();
  }
}

async function decode(
  layers: readonly MoeLayer[],
  device: Device,
  { shape, tokens }: Options,
  slots: number,
): Promise<Result> {
  const { hiddenSize } = shape.config;
  const random = new Random("offload");
  using x = device.tensor(randomTokens(1, hiddenSize, 0), [1, hiddenSize], "bf16");
  using y = device.empty(x.shape, "bf16");
  const token = async () => {
    const routings = layers.map((_, index) => zipfRouting(device, random, shape, index));
    await device.synchronize();
    const begin = performance.now();
    layers.forEach((layer, index) => {
      layer.forward(x, { routing: routings[index] as Routing, out: y });
    });
    await device.synchronize();
    const time = (performance.now() - begin) * 1e3;
    for (const { ids, weights } of routings) {
      ids.dispose();
      weights.dispose();
    }
    return time;
  };
  const totals = async () => {
    const sum = { hits: 0, misses: 0, loadedBytes: 0 };
    for (const layer of layers) {
      const stats = await layer.offload?.stats();
      sum.hits += stats?.hits ?? 0;
      sum.misses += stats?.misses ?? 0;
      sum.loadedBytes += stats?.loadedBytes ?? 0;
    }
    return sum;
  };
  for (let done = 0; done < Math.ceil(tokens / 4); done++) await token();
  const before = await totals();
  const times: number[] = [];
  for (let done = 0; done < tokens; done++) times.push(await token());
  const after = await totals();
  const hits = after.hits - before.hits;
  return {
    slots,
    residentBytes: layers.reduce((sum, layer) => sum + layer.byteLength, 0),
    hitRate: hits / (hits + after.misses - before.misses),
    loadedBytes: (after.loadedBytes - before.loadedBytes) / tokens,
    times,
  };
}

function row({ slots, residentBytes, hitRate, loadedBytes, times }: Result): string[] {
  const { median, lowerQuartile, upperQuartile } = summarize(times);
  return [
    String(slots),
    formatBytes(residentBytes),
    `${significant(hitRate * 100)} %`,
    formatBytes(loadedBytes),
    formatMicroseconds(median),
    `${formatMicroseconds(lowerQuartile)} to ${formatMicroseconds(upperQuartile)}`,
  ];
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "2048x768x32x4" },
      layers: { type: "string", default: "4" },
      slots: { type: "string", multiple: true },
      shared: { type: "boolean", default: false },
      tokens: { type: "string", default: "64" },
      folder: { type: "string" },
      threads: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const shape = shapeOption(values.shape);
  const { numExperts } = shape.config;
  const shares = [1, 2, 4, 8].map((part) => String(Math.max(1, Math.floor(numExperts / part))));
  return {
    shape,
    layers: integerOption("layers", values.layers, 1),
    slots: listOption("slots", values.slots ?? shares).map((count) => integerOption("slots", count, 1, numExperts)),
    shared: values.shared,
    tokens: integerOption("tokens", values.tokens, 1),
    folder: values.folder,
    threads: threadsOption(values.threads),
  };
}

async function run(options: Options): Promise<void> {
  const { shape, layers, folder, threads, tokens, slots } = options;
  process.stdout.write(`${JSON.stringify(describeMachine(threads))}\n`);
  using temporary = folder === undefined ? new TemporaryFolder("moe-kernels-bench-") : undefined;
  const place = temporary?.path ?? (folder as string);
  using device = openDevice("cpu", { threads });
  const bytes = await prepare(place, device, options);
  process.stdout.write(
    `${layers} layers ${shape.name} bf16, ${formatBytes(bytes)} of weights, ${threads} threads; ${tokens} tokens\n`,
  );
  const results: Result[] = [];
  for (const count of slots) results.push(await measure(place, device, options, count));
  const headings = ["slots", "resident", "hits", "loaded per token", "time per token", "quartiles"];
  process.stdout.write(
    renderTable(
      headings.map((heading) => ({ heading, align: "right" as const })),
      results.map(row),
    ),
  );
}

await runProgram({ name: "bench:offload", help, parse: parseOptions, run });
