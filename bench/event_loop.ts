import { monitorEventLoopDelay } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { describeMachine } from "#lib/bench/machine.js";
import { summarize } from "#lib/bench/measure.js";
import { shapeOption } from "#lib/bench/shape_option.js";
import type { Device } from "#lib/core/device/device.js";
import type { FloatDType } from "#lib/core/tensors/dtype.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import { openDevice } from "#lib/devices.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { MoeLayer } from "#lib/moe_layer.js";
import { integerOption } from "#lib/terminal/option_values.js";
import { outputOption } from "#lib/terminal/output_file.js";
import { renderTable } from "#lib/terminal/table.js";
import { randomLayer, randomTokens } from "#lib/testing/inputs/random_layer.js";
import { writeMixtral } from "./mixtral.js";
import { runProgram, threadsOption } from "./program.js";
import { TemporaryFolder } from "./temporary_folder.js";

// How long the event loop is held up while large work is in flight, and by the calls that copy. See --help.

const help = `Usage: npm run bench:event-loop -- [options]

Runs timers while large forwards, loads and disposals are in flight on the CPU device, and prints by how much the latest
of them was late: the median and the worst of all rounds. Then the same for calls that copy or clear a large array.

Options:
  --shape HxIxExk    sizes of the layer (2048x1024x32x8)
  --tokens N         tokens of a forward (512)
  --mebibytes N      size of the arrays that are copied, in float32 (1024)
  --rounds N         (5)
  --threads N        threads of the device (all CPUs)
  --json FILE        also write the results to FILE
  -h, --help         show this help
`;

/** One thing that a program does. */
interface Activity {
  readonly name: string;
  /** Makes what it needs, outside of what is measured. */
  prepare?(): Promise<void>;
  /** Resolves when everything is done. */
  run(): Promise<void>;
}

interface Delay {
  readonly activity: string;
  /** Milliseconds from when the latest timer was due to when it ran: median and maximum over the rounds. */
  readonly median: number;
  readonly worst: number;
}

/** Runs an activity and returns the longest delay of a timer meanwhile, in milliseconds. */
async function longestDelay(activity: Activity): Promise<number> {
  const resolution = 1;
  await activity.prepare?.();
  const delays = monitorEventLoopDelay({ resolution });
  delays.enable();
  await pause(20);
  delays.reset();
  // A delay counts from the first timer after the reset.
  await pause(5);
  await activity.run();
  // The timer that was due during a last blocking call runs now.
  await pause(20);
  delays.disable();
  return Math.max(0, delays.max / 1e6 - resolution);
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Work in flight on a layer of this shape. */
async function layerActivities(device: Device, model: string, options: Options): Promise<Activity[]> {
  const { config, tokens } = options;
  const layer = await randomLayer(device, config, "bf16", 0);
  const x = device.tensor(randomTokens(tokens, config.hiddenSize, 1), [tokens, config.hiddenSize], "bf16");
  return [
    { name: "nothing", run: () => pause(500) },
    {
      name: "4 forwards",
      async run() {
        for (let call = 0; call < 4; call++) layer.forward(x).dispose();
        await device.synchronize();
      },
    },
    {
      name: "load",
      async run() {
        const loaded = await MoeLayer.load(model, { layer: 0, device });
        await device.synchronize();
        loaded.dispose();
      },
    },
    disposal(options),
  ];
}

/** The end of a device that is busy. */
function disposal({ config, tokens, threads }: Options): Activity {
  let device: Device;
  let layer: MoeLayer;
  let x: Tensor<FloatDType>;
  return {
    name: "dispose() with 4 forwards enqueued",
    async prepare() {
      device = openDevice("cpu", { threads });
      layer = await randomLayer(device, config, "bf16", 0);
      x = device.tensor(randomTokens(tokens, config.hiddenSize, 1), [tokens, config.hiddenSize], "bf16");
      await device.synchronize();
      for (let call = 0; call < 4; call++) layer.forward(x).dispose();
    },
    async run() {
      device.dispose();
      layer.dispose();
      x.dispose();
    },
  };
}

/** Calls that copy, convert or clear. */
function copyActivities(device: Device, mebibytes: number): Activity[] {
  const values = new Float32Array(mebibytes * 2 ** 18).fill(1.5);
  const shape = [values.length];
  const made = (name: string, make: () => { dispose(): void }): Activity => ({
    name,
    async run() {
      const tensor = make();
      await device.synchronize();
      tensor.dispose();
    },
  });
  const target = device.tensor(values, shape, "f32");
  return [
    made("tensor() of f32", () => device.tensor(values, shape, "f32")),
    made("tensor() of bf16 from float32", () => device.tensor(values, shape, "bf16")),
    made("tensor() of f16 from float32", () => device.tensor(values, shape, "f16")),
    made("zeros()", () => device.zeros(shape, "f32")),
    {
      name: "write() of f32",
      async run() {
        target.write(values);
        await device.synchronize();
      },
    },
  ];
}

interface Options {
  readonly config: MoeLayerConfig;
  readonly tokens: number;
  readonly mebibytes: number;
  readonly rounds: number;
  readonly threads: number;
  readonly json: string | undefined;
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "2048x1024x32x8" },
      tokens: { type: "string", default: "512" },
      mebibytes: { type: "string", default: "1024" },
      rounds: { type: "string", default: "5" },
      threads: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const { threads, json } = values;
  return {
    config: shapeOption(values.shape).config,
    tokens: integerOption("tokens", values.tokens, 1),
    mebibytes: integerOption("mebibytes", values.mebibytes, 1),
    rounds: integerOption("rounds", values.rounds, 1),
    threads: threadsOption(threads),
    json,
  };
}

async function run(options: Options): Promise<void> {
  const json = await outputOption("json", options.json);
  using temporary = new TemporaryFolder("moe-event-loop-");
  const folder = temporary.path;
  await writeMixtral(folder, options.config);
  await using device = openDevice("cpu", { threads: options.threads });
  const activities = [
    ...(await layerActivities(device, folder, options)),
    ...copyActivities(device, options.mebibytes),
  ];
  const results: Delay[] = [];
  for (const activity of activities) {
    // Once without being counted: memory that the machine has never used takes longest.
    await longestDelay(activity);
    const delays: number[] = [];
    for (let round = 0; round < options.rounds; round++) delays.push(await longestDelay(activity));
    results.push({ activity: activity.name, median: summarize(delays).median, worst: Math.max(...delays) });
  }
  process.stdout.write(`${delayTable(results)}\n`);
  const machine = describeMachine(options.threads);
  await json?.write(`${JSON.stringify({ machine, options, results }, null, 2)}\n`);
}

function delayTable(results: readonly Delay[]): string {
  return renderTable(
    [
      { heading: "in flight" },
      { heading: "median delay, ms", align: "right" },
      { heading: "worst, ms", align: "right" },
    ],
    results.map(({ activity, median, worst }) => [activity, median.toFixed(1), worst.toFixed(1)]),
  );
}

await runProgram({ name: "bench:event-loop", help, parse: parseOptions, run });
