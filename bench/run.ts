import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { shapes } from "#lib/cases/shapes.js";
import { choiceOption, integerOption, listOption, UsageError } from "#lib/cli/command.js";
import { plural } from "#lib/cli/ui/format.js";
import { type Device, openDevice } from "#lib/device.js";
import type { FloatDType } from "#lib/dtype.js";
import { isMoeError } from "#lib/errors.js";
import type { MoeLayerConfig } from "#lib/layer/config.js";
import { type Ceilings, loadNative } from "#lib/native.js";
import type { BenchCase } from "./case.js";
import { layerCases } from "./layer.js";
import { describeMachine } from "./machine.js";
import { measure } from "./measure.js";
import { operatorCases, operatorNames } from "./operators.js";
import { ceilingsText, type Result, resultOf, resultTable } from "./report.js";

const help = `Usage: npm run bench -- [options]

Times every operator and the whole layer on the CPU device, beside what this machine reaches at best: float32
multiply-adds, bfloat16 dot products, and reading memory in order, measured before each shape and dtype.

Options:
  --shape NAMES      ${Object.keys(shapes).join(", ")} (A,B,C,D)
  --dtype DTYPES     f32, f16, bf16 (f32,bf16)
  --tokens NUMBERS   tokens per call (1,8,64,512)
  --operator TEXT    only operators whose name contains this, such as layer or grouped_gemm
  --time SECONDS     about how long to time each case (1)
  --threads N        threads of the device (all CPUs)
  --json FILE        also write the results there
  -h, --help         show this help
`;

const names = ["layer", ...operatorNames];
const dtypes = ["f32", "f16", "bf16"] as const;

interface Options {
  readonly shapes: readonly string[];
  readonly dtypes: readonly (typeof dtypes)[number][];
  readonly tokens: readonly number[];
  readonly operator: string;
  readonly seconds: number;
  readonly threads: number;
  readonly json: string | undefined;
}

function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", multiple: true, default: ["A,B,C,D"] },
      dtype: { type: "string", multiple: true, default: ["f32,bf16"] },
      tokens: { type: "string", multiple: true, default: ["1,8,64,512"] },
      operator: { type: "string", default: "" },
      time: { type: "string", default: "1" },
      threads: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const { operator, json } = values;
  if (!names.some((name) => name.includes(operator))) {
    throw new UsageError(`--operator: expected a part of one of ${names.join(", ")}, got "${operator}"`);
  }
  const seconds = Number(values.time);
  if (!(seconds > 0)) throw new UsageError(`--time: expected seconds > 0, got "${values.time}"`);
  return {
    shapes: listOption(values.shape).map((name) => choiceOption("shape", name, Object.keys(shapes))),
    dtypes: listOption(values.dtype).map((name) => choiceOption("dtype", name, dtypes)),
    tokens: listOption(values.tokens).map((count) => integerOption("tokens", count, 1)),
    operator,
    seconds,
    threads:
      values.threads === undefined ? loadNative().cpuInfo().usableCpus : integerOption("threads", values.threads, 1),
    json,
  };
}

async function main(): Promise<void> {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(help);
    return;
  }
  const { threads } = options;
  const machine = describeMachine(threads);
  const groups: { shape: string; dtype: FloatDType; ceilings: Ceilings; results: Result[] }[] = [];
  using device = openDevice("cpu", { threads });
  for (const shape of options.shapes) {
    for (const dtype of options.dtypes) {
      const ceilings = await loadNative().ceilings(threads);
      process.stdout.write(
        `\n${shape} ${dtype}, ${plural(threads, "thread")}; ceilings: ${ceilingsText(ceilings)}\n\n`,
      );
      const results: Result[] = [];
      for await (const benchCase of casesOf(device, shapes[shape] as MoeLayerConfig, dtype, options)) {
        const call = (): Promise<void> => {
          benchCase.enqueue();
          return device.synchronize();
        };
        results.push(resultOf(benchCase, await measure(call, options.seconds), dtype, ceilings));
      }
      process.stdout.write(resultTable(results));
      groups.push({ shape, dtype, ceilings, results });
    }
  }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine, groups }, null, 2)}\n`);
}

/** The cases that `--operator` selects. Weights that none of them needs are not made. */
async function* casesOf(
  device: Device,
  config: MoeLayerConfig,
  dtype: FloatDType,
  { operator, tokens }: Options,
): AsyncGenerator<BenchCase> {
  const wanted = (name: string): boolean => name.includes(operator);
  if (wanted("layer")) yield* layerCases(device, config, dtype, tokens);
  if (!operatorNames.some(wanted)) return;
  for await (const benchCase of operatorCases(device, config, dtype, tokens)) {
    if (wanted(benchCase.operator)) yield benchCase;
  }
}

try {
  await main();
} catch (error) {
  const known =
    isMoeError(error) ||
    error instanceof UsageError ||
    (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
  if (!known) throw error;
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
