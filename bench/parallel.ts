import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine } from "#lib/bench/machine.js";
import { afterPause, inTurns, ratios, summarize } from "#lib/bench/measure.js";
import { type NamedShape, shapeNames, shapeOption } from "#lib/bench/shape_option.js";
import { packageRoot } from "#lib/core/addon/package_root.js";
import type { Device } from "#lib/core/device/device.js";
import type { FloatDType } from "#lib/core/tensors/dtype.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import { openDevice } from "#lib/devices.js";
import { MoeLayer } from "#lib/moe_layer.js";
import type { Routing } from "#lib/operators/routing/gating.js";
import { ParallelLayer } from "#lib/parallel/parallel_layer.js";
import { connectBanks, type RemoteBanks } from "#lib/parallel/remote_banks.js";
import { formatBytes, formatMicroseconds } from "#lib/terminal/format.js";
import { integerOption, listOption, secondsOption, UsageError } from "#lib/terminal/option_values.js";
import { renderTable } from "#lib/terminal/table.js";
import { Random } from "#lib/testing/inputs/random.js";
import { randomTokens } from "#lib/testing/inputs/random_layer.js";
import { writeMixtral } from "./mixtral.js";
import { runProgram, threadsOption } from "./program.js";
import { TemporaryFolder } from "./temporary_folder.js";

const help = `Usage: npm run bench:parallel -- [options]

Times a layer whose experts are spread over processes of this machine, beside the same layer in one process with as many
threads, in turns. Tokens choose experts at random. Also prints what goes over the connections for each token.

Options:
  --shape NAME       ${shapeNames} (2048x768x128x8)
  --processes N      processes with an equal share of the experts, this one included (2)
  --tokens NUMBERS   (1,8,64,512)
  --rounds N         (7)
  --time SECONDS     of each turn (0.25)
  --threads N        threads of all processes together (all CPUs)
  -h, --help         show this help
`;

interface Options {
  readonly shape: NamedShape;
  readonly processes: number;
  readonly tokens: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly threads: number;
}

/** A process with a bank of the model's layer. */
class ServingProcess implements Disposable {
  readonly #child: ChildProcess;

  constructor(model: string, experts: string, threads: number) {
    const program = join(packageRoot(), "dist", "cli", "main.js");
    const options = ["--experts", experts, "--device", "cpu", "--threads", String(threads)];
    this.#child = spawn(process.execPath, [program, "serve", model, ...options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    process.once("exit", this.#kill);
  }

  /** The address where it serves, once it does. */
  async address(): Promise<string> {
    for await (const text of this.#child.stdout as NodeJS.ReadableStream) {
      const [, address] = / at (\S+), /.exec(String(text)) ?? [];
      if (address !== undefined) return address;
    }
    throw new UsageError("a process that was to serve experts has ended");
  }

  readonly #kill = (): void => {
    this.#child.kill();
  };

  [Symbol.dispose](): void {
    process.off("exit", this.#kill);
    this.#kill();
  }
}

/** k experts of each token, each as likely as any other, with equal weights. */
function randomRouting(device: Device, random: Random, { config }: NamedShape, tokens: number): Routing {
  const { numExperts, topK } = config;
  const ids = Array.from({ length: tokens }, () => {
    const chosen = new Set<number>();
    while (chosen.size < topK) chosen.add(Math.floor(random.uniform() * numExperts));
    return [...chosen];
  });
  return {
    ids: device.tensor(Int32Array.from(ids.flat()), [tokens, topK]),
    weights: device.tensor(new Float32Array(tokens * topK).fill(1 / topK), [tokens, topK]),
  };
}

/** A way through the layer. */
interface Contender {
  readonly device: Device;
  /** Resolves when the output is there. */
  forward(x: Tensor<FloatDType>, routing: Routing): Promise<void>;
}

/** The seconds of each round's median call with so many tokens. */
async function timesOf(
  contenders: readonly Contender[],
  { shape, rounds, seconds }: Options,
  tokens: number,
): Promise<number[][]> {
  const { hiddenSize } = shape.config;
  const turns = contenders.map(({ device, forward }) => {
    const x = device.tensor(randomTokens(tokens, hiddenSize, 1), [tokens, hiddenSize], "bf16");
    const random = new Random(`routing of ${tokens}`);
    return afterPause(async () => {
      const times: number[] = [];
      const begin = performance.now();
      do {
        const routing = randomRouting(device, random, shape, tokens);
        await device.synchronize();
        const start = performance.now();
        await forward(x, routing);
        times.push((performance.now() - start) / 1e3);
        for (const each of [routing.ids, routing.weights]) each.dispose();
      } while (performance.now() - begin < seconds * 1e3);
      return summarize(times).median;
    });
  });
  for (const turn of turns) await turn();
  return await inTurns(turns, rounds);
}

/** What was sent to all servers, and came from them. */
function trafficOf(remotes: readonly RemoteBanks[]): { readonly sent: number; readonly received: number } {
  const total = (count: (remote: RemoteBanks) => number) => remotes.reduce((sum, remote) => sum + count(remote), 0);
  return {
    sent: total(({ traffic }) => traffic.bytesSent),
    received: total(({ traffic }) => traffic.bytesReceived),
  };
}

async function run(options: Options): Promise<void> {
  const { shape, processes, threads } = options;
  const { numExperts } = shape.config;
  if (processes > numExperts) throw new UsageError(`--processes: expected at most ${numExperts}, got ${processes}`);
  const each = Math.max(1, Math.floor(threads / processes));
  process.stdout.write(`${JSON.stringify(describeMachine(threads))}\n`);
  process.stdout.write(`${shape.name} bf16, ${processes} processes, ${each} of ${threads} threads each\n`);
  using temporary = new TemporaryFolder("moe-kernels-bench-");
  const model = join(temporary.path, "model");
  mkdirSync(model);
  await writeMixtral(model, shape.config);
  await using together = openDevice("cpu", { threads });
  await using own = openDevice("cpu", { threads: each });
  const begins = Array.from({ length: processes + 1 }, (_, index) => Math.floor((index * numExperts) / processes));
  const serving: ServingProcess[] = [];
  const remotes: RemoteBanks[] = [];
  try {
    for (const [index, first] of begins.slice(1, -1).entries()) {
      const child = new ServingProcess(model, `${first}-${(begins[index + 2] as number) - 1}`, each);
      serving.push(child);
      remotes.push(await connectBanks(await child.address()));
    }
    using whole = await MoeLayer.load(model, { layer: 0, device: together });
    using near = await MoeLayer.load(model, { layer: 0, device: own, bank: { first: 0, count: begins[1] as number } });
    const far = remotes.map((remote) => remote.bank(0));
    const layer = await ParallelLayer.create(near, far);
    let tokensOfLayer = 0;
    const contenders: Contender[] = [
      {
        device: together,
        async forward(x, routing) {
          whole.forward(x, { routing }).dispose();
          await together.synchronize();
        },
      },
      {
        device: own,
        async forward(x, routing) {
          (await layer.forward(x, { routing })).dispose();
          await own.synchronize();
          tokensOfLayer += x.shape[0] as number;
        },
      },
    ];
    const rows: string[][] = [];
    for (const tokens of options.tokens) {
      const [before, tokensBefore] = [trafficOf(remotes), tokensOfLayer];
      const [alone, spread] = (await timesOf(contenders, options, tokens)) as [number[], number[]];
      const [after, counted] = [trafficOf(remotes), tokensOfLayer - tokensBefore];
      const ratio = ratios(alone, spread);
      rows.push([
        String(tokens),
        ...[alone, spread].map((times) => formatMicroseconds(1e6 * summarize(times).median)),
        ratio.median.toFixed(2),
        `${ratio.lowerQuartile.toFixed(2)} to ${ratio.upperQuartile.toFixed(2)}`,
        ...(["sent", "received"] as const).map((way) => formatBytes((after[way] - before[way]) / counted)),
      ]);
    }
    const headings = ["tokens", "1 process", `${processes} processes`, "times as fast", "quartiles"];
    process.stdout.write(
      renderTable(
        [...headings, "sent per token", "received"].map((heading) => ({ heading, align: "right" as const })),
        rows,
      ),
    );
  } finally {
    for (const remote of remotes) remote.close();
    for (const child of serving) child[Symbol.dispose]();
  }
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "2048x768x128x8" },
      processes: { type: "string", default: "2" },
      tokens: { type: "string", multiple: true, default: ["1,8,64,512"] },
      rounds: { type: "string", default: "7" },
      time: { type: "string", default: "0.25" },
      threads: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  return {
    shape: shapeOption(values.shape),
    processes: integerOption("processes", values.processes, 2, 64),
    tokens: listOption("tokens", values.tokens).map((count) => integerOption("tokens", count, 1)),
    rounds: integerOption("rounds", values.rounds, 1),
    seconds: secondsOption("time", values.time),
    threads: threadsOption(values.threads),
  };
}

await runProgram({ name: "bench:parallel", help, parse: parseOptions, run });
