import { ceilingsText, kernelText } from "../../bench/ceilings.js";
import { failureOf } from "../../bench/contenders/check.js";
import { caseNames, wantedCases } from "../../bench/operators/table.js";
import { type BenchProgress, benchDTypes, mostTurns } from "../../bench/options.js";
import { type BenchGroup, type BenchReport, groupsInTurns, groupsText, groupText } from "../../bench/report.js";
import { reportChart } from "../../bench/reports/charts.js";
import { reportPage } from "../../bench/reports/page.js";
import { contenderTable, formatTable, resultTable } from "../../bench/reports/tables.js";
import { chartOption, writePage } from "../../bench/reports/write.js";
import { runBenchmark } from "../../bench/run.js";
import { shapeNames, shapeOptions, shapeParameters } from "../../bench/shape_option.js";
import { type TokenFormat, tokenFormats } from "../../core/formats/token_format.js";
import { finiteOrText } from "../../core/text/finite_json.js";
import type { DeviceName } from "../../devices.js";
import { choiceOption, integerOption, listOption, secondsOption, UsageError } from "../../terminal/option_values.js";
import { checkDifferentOutputs, outputOption } from "../../terminal/output_file.js";
import { type Progress, startProgress } from "../../terminal/progress.js";
import { renderTable } from "../../terminal/table.js";
import { defineCommand } from "../command.js";
import type { Io } from "../io.js";
import { checkDevices } from "../options/devices.js";
import { formatOption } from "../options/format.js";
import { threadCount } from "../options/threads.js";
import { loadSubjects } from "../subjects/load_subject.js";

const mebibyte = 2 ** 20;
const mostMebibytes = 2 ** 32;
const list = { type: "string", multiple: true } as const;

/** `bench`: times layers and operators, alone and beside contenders. */
export const bench = defineCommand({
  synopsis: "[options]",
  options: {
    shape: { ...list, value: "NAMES", help: `${shapeNames} (D)` },
    operator: {
      ...list,
      value: "TEXT",
      help: "only cases whose name contains this, such as layer or groupedGemm (all)",
    },
    tokens: { ...list, value: "NUMBERS", help: "tokens per call (1,8,64,512)" },
    dtype: { ...list, value: "DTYPES", help: "of tokens: f32, f16, bf16 (bf16)" },
    format: {
      ...list,
      value: "FORMATS",
      help: "of the experts' weights: a dtype, int4_g32, mxfp4, ... (the tokens' dtype)",
    },
    "token-format": {
      ...list,
      value: "NAMES",
      help: "round tokens for quantised weights: none, int8, fp8, fp8_ue8m0 (none)",
    },
    threads: { ...list, value: "NUMBERS", help: "threads of the device, one after another (all CPUs)" },
    device: { type: "string", value: "NAME", help: "cpu, reference, simt, cuda, cuda:1, ... (cpu)" },
    contender: {
      ...list,
      value: "FILE",
      help: "another implementation to time beside: a module whose default export is a subject",
    },
    time: {
      type: "string",
      value: "SECONDS",
      default: "0.3",
      help: "approximate time for each case and contender (0.3)",
    },
    rounds: { type: "string", value: "N", default: "7", help: "turns that this time is divided into (7)" },
    calls: { type: "string", value: "N", default: "1", help: "calls between two waits (1)" },
    weights: {
      type: "string",
      value: "MIB",
      help: "total size of the copies of the weights that calls rotate through (twice the last-level cache, at least 256)",
    },
    memory: {
      type: "string",
      value: "MIB",
      help: "most for the weights of all formats; those that do not fit are timed apart (60 % of the free memory)",
    },
    json: { type: "string", value: "FILE", help: "write the results to FILE, for bench compare" },
    chart: { type: "string", value: "FILE", help: "draw them to FILE.html or FILE.svg; needs vega and vega-lite" },
  },
  parameters: { ...shapeParameters, seconds: "--time", weightBytes: "--weights", memoryBytes: "--memory" },
  async run(values, io) {
    const operators = listOption("operator", values.operator);
    for (const part of operators) {
      if (!caseNames.some(wantedCases([part]))) {
        throw new UsageError(`--operator: expected part of one of ${caseNames.join(", ")}, got "${part}"`);
      }
    }
    const options = {
      shapes: Object.fromEntries(
        shapeOptions(listOr("shape", values.shape, "D")).map(({ name, config }) => [name, config]),
      ),
      device: (values.device ?? "cpu") as DeviceName,
      dtypes: listOr("dtype", values.dtype, "bf16").map((name) => choiceOption("dtype", name, benchDTypes)),
      ...(values.format && {
        formats: listOption("format", values.format).map((name) => formatOption("format", name)),
      }),
      tokenFormats: tokenFormatsOption(listOr("token-format", values["token-format"], "none")),
      tokens: listOr("tokens", values.tokens, "1,8,64,512").map((count) => integerOption("tokens", count, 1)),
      ...(values.threads && {
        threads: listOption("threads", values.threads).map((count) => threadCount(count)),
      }),
      ...(operators.length > 0 && { operators }),
      seconds: secondsOption("time", values.time),
      rounds: integerOption("rounds", values.rounds, 1, mostTurns),
      calls: integerOption("calls", values.calls, 1, mostTurns),
      ...(values.weights !== undefined && {
        weightBytes: integerOption("weights", values.weights, 0, mostMebibytes) * mebibyte,
      }),
      ...(values.memory !== undefined && {
        memoryBytes: integerOption("memory", values.memory, 0, mostMebibytes) * mebibyte,
      }),
    };
    const json = await outputOption("json", values.json);
    const chart = await chartOption(values.chart);
    await checkDifferentOutputs(json, chart);
    checkDevices([options.device]);
    const contenders = await loadSubjects("contender", listOption("contender", values.contender));
    const progress = new GroupProgress(io);
    let report: BenchReport;
    try {
      report = await runBenchmark({ ...options, contenders, onProgress: (at) => progress.show(at) });
    } finally {
      progress.stop();
    }
    for (const groups of groupsInTurns(report.groups)) printGroups(groups, io);
    await json?.write(`${JSON.stringify(report, finiteOrText, 2)}\n`);
    if (chart !== undefined) await writePage(chart, reportChart(report), (svg) => reportPage(report, svg));
    return report.groups.some(({ results }) => results.some(failed)) ? 1 : 0;
  },
});

/** Results that are wrong, of a contender or of ours, are not only left out of the ranking. */
const failed = ({ errors, contenders }: BenchGroup["results"][number]): boolean =>
  failureOf(errors ?? []) !== null || contenders.some(({ failure }) => failure !== null);

function listOr(name: string, given: readonly string[] | undefined, otherwise: string): string[] {
  return given === undefined ? otherwise.split(",") : listOption(name, given);
}

function tokenFormatsOption(names: readonly string[]): TokenFormat[] {
  return names.map((name) => choiceOption("token-format", name, tokenFormats));
}

/** A bar for each group. */
class GroupProgress {
  readonly #io: Io;
  #group = "";
  #bar: Progress | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  show({ group, done, total }: BenchProgress): void {
    if (group !== this.#group) {
      this.stop();
      this.#group = group;
      this.#bar = startProgress(this.#io.stderr, `Timing ${group}`, total);
    }
    this.#bar?.update(done);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** Groups that took turns, and how they compare. */
function printGroups(groups: readonly BenchGroup[], io: Io): void {
  for (const group of groups) printGroup(group, io);
  const formats = formatTable(groups);
  if (formats) io.stdout.write(`${groupsText(groups)}\n\n${renderTable(formats.columns, formats.rows)}\n`);
}

function printGroup(group: BenchGroup, { stdout }: Io): void {
  const { ceilings, kernel, results } = group;
  stdout.write(`${groupText(group)}\n`);
  if (ceilings && kernel) {
    stdout.write(`ceilings: ${ceilingsText(ceilings)}\nkernel: ${kernelText(ceilings, kernel)}\n`);
  }
  const own = resultTable(results);
  stdout.write(`\n${renderTable(own.columns, own.rows)}\n`);
  const contenders = contenderTable(group);
  if (contenders) stdout.write(`Contenders\n\n${renderTable(contenders.columns, contenders.rows)}\n`);
}
