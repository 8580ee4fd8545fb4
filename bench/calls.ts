import { parseArgs } from "node:util";
import Benchmark from "benchmark";
import type { BenchCase } from "#lib/bench/bench_case.js";
import { describeMachine } from "#lib/bench/machine.js";
import { operatorBenchCases } from "#lib/bench/operator_cases.js";
import { operatorCases, wantedCases } from "#lib/bench/operators/table.js";
import { type NamedShape, shapeNames, shapeOption } from "#lib/bench/shape_option.js";
import type { Device } from "#lib/core/device/device.js";
import { type DeviceName, openDevice } from "#lib/devices.js";
import { plural, significant } from "#lib/terminal/format.js";
import { integerOption, listOption, secondsOption, UsageError } from "#lib/terminal/option_values.js";
import { outputOption } from "#lib/terminal/output_file.js";
import { withProgress } from "#lib/terminal/progress.js";
import { renderTable } from "#lib/terminal/table.js";
import { relativeError } from "#lib/testing/difference.js";
import { PeerError } from "./peers/contender.js";
import {
  type Counterpart,
  loadOnnxruntime,
  type OnnxruntimeOperators,
  onnxruntimeMissing,
} from "./peers/onnxruntime.js";
import { runProgram, threadsOption } from "./program.js";
import { measureRates, type Rate, type Work } from "./rates.js";

/** Calls that are enqueued before one wait. */
const together = 64;

const help = `Usage: npm run bench:calls -- [options]

Counts how many calls of every operator fit in a second, at a size where the call takes longer than the work. All are
counted when their results are there: calls that are each waited for, and ${together} calls before each wait. On the CPU device,
onnxruntime-node makes the same call where it has one, after the outputs were compared.

Options:
  --operator TEXT    only operators whose name contains this, such as gating or groupedGemm (all)
  --shape NAME       ${shapeNames} (64x32x8x2)
  --tokens N         (2)
  --device NAME      cpu, reference, simt, cuda, cuda:1, ... (cpu)
  --threads N        threads of the device, and of onnxruntime (all CPUs)
  --time SECONDS     of each measurement (0.4)
  --json FILE        also write the results to FILE
  -h, --help         show this help
`;

interface Options {
  readonly operators: readonly string[];
  readonly shape: NamedShape;
  readonly tokens: number;
  readonly device: string;
  readonly threads: number;
  readonly seconds: number;
  readonly json: string | undefined;
}

/** The calls of an operator in a second. */
interface Result {
  readonly operator: string;
  /** Calls that are each waited for. */
  readonly waited: Rate;
  /** Calls before one wait. */
  readonly together: Rate;
  /** onnxruntime's, each waited for; null where it has none. */
  readonly onnxruntime: Rate | null;
}

/** Largest accepted difference between onnxruntime's outputs and ours, relative to the largest output. */
const tolerance = 1e-5;

async function checkOutputs({ name, firstOutputs }: BenchCase, counterpart: Counterpart): Promise<void> {
  const theirs = await counterpart.firstOutputs();
  for (const [output, expected] of Object.entries(await firstOutputs())) {
    const error = relativeError(theirs[output] ?? [], expected);
    if (error <= tolerance) continue;
    throw new PeerError(`${name}: expected onnxruntime's ${output} within ${tolerance} of ours, got ${error}`);
  }
}

async function measure(
  device: Device,
  benchCase: BenchCase,
  { threads, seconds }: Options,
  onnxruntime: OnnxruntimeOperators | undefined,
): Promise<Result> {
  const { name, operator, enqueue } = benchCase;
  const counterpart = await onnxruntime?.openCounterpart(operator, benchCase.contenderCalls(), threads);
  const calls = (times: number): Work => ({
    times,
    run() {
      for (let call = 0; call < times; call++) enqueue();
      return device.synchronize();
    },
  });
  try {
    if (counterpart) await checkOutputs(benchCase, counterpart);
    const works = [calls(1), calls(together), ...(counterpart ? [{ run: counterpart.run, times: 1 }] : [])];
    const [waited, inOne, theirs = null] = (await measureRates(works, seconds)) as [Rate, Rate, Rate?];
    return { operator: name, waited, together: inOne, onnxruntime: theirs };
  } finally {
    await counterpart?.release();
  }
}

async function run(options: Options): Promise<void> {
  const { shape, tokens, threads, operators } = options;
  const json = await outputOption("json", options.json);
  const chosen = operatorCases.filter(({ name }) => wantedCases(operators)(name));
  await using device = openDevice(options.device as DeviceName, { threads });
  const onCpu = device.kind === "cpu";
  const missing = onnxruntimeMissing();
  const onnxruntime = onCpu && missing === undefined ? await loadOnnxruntime() : undefined;
  const caseOptions = {
    ...({ config: shape.config, dtype: "f32", format: "f32", tokenFormat: "none" } as const),
    ...{ tokenCounts: [tokens], weightBytes: 0 },
  };
  const results: Result[] = [];
  await withProgress(
    process.stderr,
    `Counting calls of ${plural(chosen.length, "case")}`,
    chosen.length,
    async (update) => {
      for (const operatorCase of chosen) {
        for await (const benchCase of operatorBenchCases(device, operatorCase, caseOptions)) {
          results.push(await measure(device, benchCase, options, onnxruntime));
          update(results.length);
        }
      }
    },
  );
  const versions = { benchmark: Benchmark.version, onnxruntime: onnxruntime?.version ?? null };
  process.stdout.write(
    `${device.kind}, ${shape.name} f32, T = ${tokens}, ${plural(threads, "thread")}; calls a second with the margin of error, by benchmark ${versions.benchmark}\n` +
      "each: a call and `await device.synchronize()`, then the next call\n" +
      `${together} together: ${together} calls before each wait\n`,
  );
  if (onnxruntime) {
    process.stdout.write(
      `onnxruntime: \`await session.run()\` of onnxruntime-node ${onnxruntime.version}; x: each, divided by it\n`,
    );
  } else if (onCpu) process.stdout.write(`onnxruntime: not installed; ${missing}\n`);
  process.stdout.write(`\n${callTable(results)}`);
  const machine = describeMachine(threads);
  await json?.write(`${JSON.stringify({ machine, versions, options, results }, null, 2)}\n`);
}

function callTable(results: readonly Result[]): string {
  const counts = ["each", `${together} together`, "onnxruntime"].flatMap((heading) => [heading, "±", "samples"]);
  const right = [...counts, "x"].map((heading) => ({ heading, align: "right" as const }));
  const cells = (rate: Rate | null) =>
    rate === null
      ? ["-", "", ""]
      : [Benchmark.formatNumber(Math.round(rate.perSecond)), `${rate.margin.toFixed(2)} %`, String(rate.samples)];
  return renderTable(
    [{ heading: "operator" }, ...right],
    results.map(({ operator, waited, together: inOne, onnxruntime }) => [
      operator,
      ...[waited, inOne, onnxruntime].flatMap(cells),
      onnxruntime ? significant(waited.perSecond / onnxruntime.perSecond) : "",
    ]),
  );
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      operator: { type: "string", multiple: true, default: [] },
      shape: { type: "string", default: "64x32x8x2" },
      tokens: { type: "string", default: "2" },
      device: { type: "string", default: "cpu" },
      threads: { type: "string" },
      time: { type: "string", default: "0.4" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const names = operatorCases.map(({ name }) => name);
  const operators = listOption("operator", values.operator.length === 0 ? undefined : values.operator);
  for (const part of operators) {
    if (names.some(wantedCases([part]))) continue;
    throw new UsageError(`--operator: expected part of one of ${names.join(", ")}, got "${part}"`);
  }
  return {
    operators: operators.length === 0 ? [""] : operators,
    shape: shapeOption(values.shape),
    tokens: integerOption("tokens", values.tokens, 1),
    device: values.device,
    threads: threadsOption(values.threads),
    seconds: secondsOption("time", values.time),
    json: values.json,
  };
}

await runProgram({ name: "bench:calls", help, parse: parseOptions, run, errors: [PeerError] });
