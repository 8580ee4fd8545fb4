import { betterOf, ceilingsBeside, ceilingsText, kernelText, measureReadRate } from "#lib/bench/ceilings.js";
import { describeMachine } from "#lib/bench/machine.js";
import type { NamedShape } from "#lib/bench/shape_option.js";
import { loadNative, type ProductKernel } from "#lib/core/addon/native.js";
import type { Device } from "#lib/core/device/device.js";
import { weightFormat } from "#lib/core/formats/weight_formats.js";
import { openDevice } from "#lib/devices.js";
import { drawChart, loadVega } from "#lib/statistics/draw_chart.js";
import { formatBytes, plural } from "#lib/terminal/format.js";
import { UsageError } from "#lib/terminal/option_values.js";
import { checkDifferentOutputs, outputOption } from "#lib/terminal/output_file.js";
import { startProgress } from "#lib/terminal/progress.js";
import { runProgram } from "../program.js";
import { TemporaryFolder } from "../temporary_folder.js";
import { chartSpecification } from "./chart.js";
import { type Contender, PeerError } from "./contender.js";
import { type PeerFormat, partsOf } from "./formats.js";
import { help, type Options, parseOptions } from "./options.js";
import { ours } from "./ours.js";
import { PeerProcess } from "./peer_process.js";
import { type Command, type Peer, peers } from "./peers.js";
import { createProblem, type Input, weightsFile } from "./problem.js";
import { type Cell, cellOf, cellTable, type Group } from "./report.js";
import { planRotation, rotationText } from "./rotation.js";
import { checkParts, timeInTurns } from "./rounds.js";
import { gradientSizes, ourTraining } from "./training.js";

/** A peer and the command that runs it on this machine. */
interface Runnable {
  readonly peer: Peer;
  readonly command: Command;
}

/** Versions of all contenders, by name. */
type Versions = Record<string, string>;

/** What needs the packages that draw, for errors. */
const drawing = "bench:peers --chart";

async function run(options: Options): Promise<void> {
  const json = await outputOption("json", options.json);
  const chart = await outputOption("chart", options.chart, [".svg"]);
  await checkDifferentOutputs(json, chart);
  if (chart !== undefined) await loadVega(drawing);
  const machine = describeMachine(options.threads);
  const runnable = findPeers(options.peers);
  const versions: Versions = {};
  const groups: Group[] = [];
  using device = openDevice("cpu", { threads: options.threads });
  for (const shape of options.shapes) {
    for (const format of options.formats)
      groups.push(await compare(device, shape, format, runnable, options, versions));
  }
  const { rounds, threads } = options;
  await json?.write(`${JSON.stringify({ machine, versions, rounds, groups }, null, 2)}\n`);
  if (chart !== undefined) {
    const subtitle = `${loadNative().cpuInfo().model}, ${plural(threads, "thread")}, median of ${plural(rounds, "round")}`;
    await chart.write(await drawChart(chartSpecification(groups, subtitle), drawing));
  }
}

/** The named peers; if none are named, all that this machine can run. */
function findPeers(wanted: readonly Peer[] | undefined): Runnable[] {
  return (wanted ?? peers).flatMap((peer) => {
    const command = peer.command();
    if (typeof command !== "string") return [{ peer, command }];
    const message = `${peer.name} cannot run here: ${command}`;
    if (wanted !== undefined) throw new UsageError(`--peer: ${message}`);
    process.stderr.write(`${message}\n`);
    return [];
  });
}

async function compare(
  device: Device,
  { name: shape, config }: NamedShape,
  format: PeerFormat,
  runnable: readonly Runnable[],
  options: Options,
  versions: Versions,
): Promise<Group> {
  const { threads, tokens, training } = options;
  const fitting = runnable.filter(({ peer }) => peer.formats.includes(format) && (peer.trains || !training));
  const chosen = fitting.filter(({ peer }) => {
    const reason = peer.lacks?.(config, format);
    if (reason !== undefined) process.stderr.write(`${shape} ${format}: without ${peer.name}: ${reason}\n`);
    return reason === undefined;
  });
  // A layer that trains has gradients and gets new weights, so that all of it passes the caches.
  const planned = planRotation(config, format, chosen.length + 1);
  const rotation = training ? { ...planned, copies: 1, bytes: planned.bytes / planned.copies } : planned;
  using temporary = new TemporaryFolder("moe-kernels-peers-");
  const directory = temporary.path;
  const started: PeerProcess[] = [];
  const stopPeers = (): void => {
    for (const peer of started) peer[Symbol.dispose]();
  };
  process.once("exit", stopPeers); // if the program is interrupted
  try {
    process.stderr.write(`${shape} ${format}: creating the layer\n`);
    using problem = await createProblem(device, config, format, tokens, directory, {
      copies: rotation.copies,
      training,
    });
    for (const { peer, command } of chosen) {
      process.stderr.write(`${shape} ${format}: starting ${peer.name}\n`);
      const setup = {
        variant: peer.variant,
        directory,
        weights: weightsFile,
        config,
        threads,
        copies: rotation.copies,
        training,
      };
      started.push(await PeerProcess.start(peer.name, command, setup));
    }
    const contenders = [...(training ? [ourTraining(problem)] : ours(problem)), ...started];
    for (const { name, version } of contenders) versions[name] = version;
    const held = training ? `one layer, ${formatBytes(rotation.bytes)}` : rotationText(rotation);
    process.stdout.write(`${shape} ${format}: ${held}\n`);
    const { weights, tokens: dtype, tokenFormat } = partsOf(format);
    const kernel = loadNative().productKernel(dtype, tokenFormat, weightFormat(weights).name);
    const cells: Cell[] = [];
    for (const [count, inputs] of problem.inputs) {
      const title = `${shape} ${format}, T = ${count}`;
      const sizes = training ? gradientSizes(problem, count) : [inputs.length * count * config.hiddenSize];
      const cell = await measureCell(title, contenders, count, inputs, sizes, format, kernel, options);
      process.stdout.write(`${title}, ${plural(threads, "thread")}\n`);
      process.stdout.write(`ceilings: ${ceilingsText(cell.ceilings)}\n`);
      process.stdout.write(`our kernel: ${kernelText(cell.ceilings, kernel)}\n\n${cellTable(cell.results)}\n`);
      cells.push(cell);
    }
    return { shape, format, kernel, rotation, cells };
  } finally {
    process.off("exit", stopPeers);
    stopPeers();
  }
}

async function measureCell(
  title: string,
  contenders: readonly Contender[],
  tokens: number,
  inputs: readonly Input[],
  sizes: readonly number[],
  format: PeerFormat,
  kernel: ProductKernel,
  { rounds, seconds, threads, training }: Options,
): Promise<Cell> {
  const [own] = contenders as readonly [Contender];
  const expected = await own.outputs(tokens);
  const differences: number[] = [];
  for (const contender of contenders) {
    const outputs = await contender.outputs(tokens);
    differences.push(checkParts(`${title}, ${contender.name}`, outputs, expected, sizes, format));
  }
  const kept: (number | undefined)[] = [];
  for (const contender of contenders) kept.push(training ? await contender.kept?.(tokens) : undefined);
  const progress = startProgress(process.stderr, `${title}: timing`, rounds * (contenders.length + 1));
  try {
    const before = await ceilingsBeside(rounds * seconds, threads);
    const readRate = () => measureReadRate(seconds, threads);
    const { medians, readGBs } = await timeInTurns(contenders, tokens, rounds, seconds, readRate, progress.update);
    const ceilings = betterOf(before, await ceilingsBeside(rounds * seconds, threads));
    const turns = contenders.map(({ name }, index) => ({
      name,
      medians: medians[index] as number[],
      difference: differences[index] as number,
      kept: kept[index],
      peer: contenders[index] instanceof PeerProcess,
    }));
    return cellOf(tokens, inputs, turns, ceilings, readGBs, kernel);
  } finally {
    progress.stop();
  }
}

await runProgram({ name: "bench:peers", help, parse: parseOptions, run, errors: [PeerError] });
