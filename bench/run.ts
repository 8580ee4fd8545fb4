import { writeFileSync } from "node:fs";
import type { Device } from "#lib/core/device.js";
import type { FloatDType } from "#lib/core/dtype.js";
import { type Ceilings, loadNative, type ProductKernel } from "#lib/core/native.js";
import { openDevice } from "#lib/devices.js";
import { plural } from "#lib/terminal/format.js";
import { startProgress } from "#lib/terminal/progress.js";
import type { BenchCase, CaseOptions } from "./case.js";
import { betterOf, ceilingsText, kernelText } from "./ceilings.js";
import { layerCases } from "./layer.js";
import { describeMachine } from "./machine.js";
import { type Measurement, measure } from "./measure.js";
import { operatorCases, operatorNames } from "./operators.js";
import { help, names, type Options, parseOptions } from "./options.js";
import { runProgram } from "./program.js";
import { type Result, resultOf, resultTable } from "./report.js";
import type { NamedShape } from "./shape_option.js";
import { measureSimt, simtText } from "./simt.js";

/** All results of one shape and dtype. */
interface Group {
  readonly shape: string;
  readonly dtype: FloatDType;
  readonly ceilings: Ceilings;
  readonly kernel: ProductKernel;
  readonly results: readonly Result[];
}

async function run(options: Options): Promise<void> {
  const machine = describeMachine(options.threads);
  const groups: Group[] = [];
  using device = openDevice("cpu", { threads: options.threads });
  for (const shape of options.shapes) {
    for (const dtype of options.dtypes) {
      const group = await measureGroup(device, shape, dtype, options);
      process.stdout.write(`${shape.name} ${dtype}, ${plural(options.threads, "thread")}\n`);
      process.stdout.write(`ceilings: ${ceilingsText(group.ceilings)}\n`);
      process.stdout.write(`kernel: ${kernelText(group.ceilings, group.kernel)}\n\n${resultTable(group.results)}\n`);
      groups.push(group);
    }
  }
  const simt = measureSimt();
  process.stdout.write(simt === undefined ? "simt: not part of this build\n" : `${simtText(simt)}\n`);
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify({ machine, groups, simt }, null, 2)}\n`);
}

async function measureGroup(
  device: Device,
  { name, config }: NamedShape,
  dtype: FloatDType,
  options: Options,
): Promise<Group> {
  const { threads, tokens: tokenCounts, operator, weightBytes } = options;
  const count = tokenCounts.length * names.filter((candidate) => candidate.includes(operator)).length;
  const progress = startProgress(process.stderr, `Timing ${name} ${dtype}`, count);
  try {
    const before = await loadNative().ceilings(threads);
    const measured: { benchCase: BenchCase; measurement: Measurement }[] = [];
    for await (const benchCase of casesOf(device, { config, dtype, tokenCounts, weightBytes }, operator)) {
      const call = (): Promise<void> => {
        benchCase.enqueue();
        return device.synchronize();
      };
      measured.push({ benchCase, measurement: await measure(call, options.seconds) });
      progress.update(measured.length);
    }
    const ceilings = betterOf(before, await loadNative().ceilings(threads));
    const kernel = loadNative().productKernel(dtype, "none", dtype);
    const results = measured.map(({ benchCase, measurement }) => resultOf(benchCase, measurement, ceilings, kernel));
    return { shape: name, dtype, ceilings, kernel, results };
  } finally {
    progress.stop();
  }
}

/** The cases that `--operator` selects. Weights are created only if one of them needs them. */
async function* casesOf(device: Device, options: CaseOptions, operator: string): AsyncGenerator<BenchCase> {
  const wanted = (name: string): boolean => name.includes(operator);
  if (wanted("layer")) yield* layerCases(device, options);
  if (!operatorNames.some(wanted)) return;
  for await (const benchCase of operatorCases(device, options)) {
    if (wanted(benchCase.operator)) yield benchCase;
  }
}

await runProgram({ name: "bench", help, parse: parseOptions, run });
