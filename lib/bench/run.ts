import { type Ceilings, loadNative } from "../core/addon/native.js";
import type { Device } from "../core/device/device.js";
import { cannotCombine, invalidArgument, unexpected } from "../core/errors.js";
import { nothingRounds } from "../core/formats/token_format.js";
import { isPlain, weightFormat } from "../core/formats/weight_formats.js";
import { attempt } from "../core/input/foreign.js";
import { type DeviceName, openDevice } from "../devices.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { formatBytes } from "../terminal/format.js";
import { closeSubjects } from "../testing/subject/close.js";
import { operatorOf } from "../testing/subject/operator_of.js";
import { checkSubject } from "../testing/subject/run_cases.js";
import type { Subject } from "../testing/subject/subject.js";
import type { BenchCase, CaseOptions } from "./bench_case.js";
import { betterOf, boundOf, ceilingsBeside, measureReadRate } from "./ceilings.js";
import { checkCaseFits } from "./check_memory.js";
import { dividedByBytes, heldBytes } from "./held_bytes.js";
import { layerCases } from "./layer_cases.js";
import { bytesBeyondCaches, describeMachine } from "./machine.js";
import { operatorBenchCases } from "./operator_cases.js";
import type { OperatorCase } from "./operators/operator_case.js";
import { caseNames, operatorCases, wantedCases } from "./operators/table.js";
import { type BenchmarkOptions, benchmarkOptions, contendersOption, memoryLimit, type ReadOptions } from "./options.js";
import { type MeasuredCase, race } from "./race.js";
import { type BenchGroup, type BenchReport, type BenchResult, type GroupName, groupsText } from "./report.js";

/**
 * Times layers and operators, and contenders beside them. All dtypes and formats of a case take turns, and so do the contenders.
 * Calls rotate through inputs and copies of weights, so that weights come from memory. Contenders get the same numbers, and must give
 * what `reference` computes in float64.
 * @throws INVALID_ARGUMENT, OUT_OF_MEMORY for what memory cannot hold, and what opening the device throws.
 */
export async function runBenchmark(options: BenchmarkOptions): Promise<BenchReport> {
  const contenders: Subject[] = [];
  try {
    const given = attempt("contenders", () => (options as BenchmarkOptions | null | undefined)?.contenders);
    for (const contender of contendersOption(given, "contenders")) {
      checkSubject(contender);
      contenders.push(contender);
    }
    return await measure(benchmarkOptions(options, "options"), contenders);
  } finally {
    await closeSubjects(contenders);
  }
}

async function measure(read: ReadOptions, contenders: readonly Subject[]): Promise<BenchReport> {
  if (contenders.length > 0 && read.calls > 1) throw cannotCombine("contenders", "calls");
  if (!caseNames.some(wantedCases(read.operators))) {
    throw invalidArgument("operators", `part of one of ${caseNames.join(", ")}`, read.operators.join(", "));
  }
  const groups: BenchGroup[] = [];
  let description = "";
  const threads = read.threads ?? [loadNative().cpuInfo().usableCpus];
  const keys = keysOf(read);
  const ownsMemory = read.device.startsWith("cuda");
  for (const key of keys) {
    for (const operatorCase of wantedOperators(read)) {
      checkCaseFits(operatorCase, key.shape, caseOptionsOf(key, read), ownsMemory);
    }
  }
  for (const count of threads) {
    using device = openDevice(read.device as DeviceName, { threads: count });
    description = device.description;
    let before = await ceilingsOf(device, count, read.seconds);
    for (const shape of Object.keys(read.shapes)) {
      const own = keys.filter((key) => key.shape === shape).map((key) => ({ ...key, threads: count }));
      const measured = await measureGroups(device, own, read, contenders);
      const after = await ceilingsOf(device, count, read.seconds);
      groups.push(...measured.map((group) => withCeilings(group, before && after && betterOf(before, after))));
      before = after;
    }
  }
  const { rounds, calls, device } = read;
  const machine = describeMachine(Math.max(...threads));
  return { kind: "moe-kernels bench", machine, device, description, rounds, calls, groups };
}

async function ceilingsOf({ kind }: Device, threads: number, seconds: number): Promise<Ceilings | null> {
  return kind === "cpu" ? await ceilingsBeside(seconds, threads) : null;
}

/** A result before the ceilings are known, and a group of them. */
type MeasuredResult = MeasuredCase & Pick<BenchResult, "apart">;
type MeasuredGroup = Omit<BenchGroup, "ceilings" | "results"> & { readonly results: readonly MeasuredResult[] };

/** All combinations. Tokens are rounded for quantised weights only. */
function keysOf({ shapes, dtypes, formats, tokenFormats: rounded }: ReadOptions): Omit<GroupName, "threads">[] {
  for (const [name, given] of Object.entries({ shapes: Object.keys(shapes), dtypes, formats, tokenFormats: rounded })) {
    if (given?.length === 0) throw unexpected(name, "at least one", "none");
  }
  const keys = Object.keys(shapes).flatMap((shape) =>
    dtypes.flatMap((dtype) =>
      (formats ?? [dtype]).flatMap((name) => {
        const format = weightFormat(name, "formats");
        return rounded
          .filter((tokenFormat) => tokenFormat === "none" || !isPlain(format))
          .map((tokenFormat) => ({ shape, dtype, format: format.name, tokenFormat }));
      }),
    ),
  );
  if (keys.length === 0) throw nothingRounds("tokenFormats", formats ?? dtypes, ...rounded);
  return keys;
}

/** The cases to time; undefined is the whole layer. */
function wantedOperators({ operators }: ReadOptions): (OperatorCase | undefined)[] {
  const names = caseNames.filter(wantedCases(operators));
  return names.map((name) => operatorCases.find((one) => one.name === name));
}

function caseOptionsOf(
  { shape, dtype, format, tokenFormat }: Pick<GroupName, "shape" | "dtype" | "format" | "tokenFormat">,
  { shapes, tokens: tokenCounts, weightBytes = bytesBeyondCaches() }: ReadOptions,
): CaseOptions {
  return { config: shapes[shape] as MoeLayerConfig, dtype, format, tokenFormat, tokenCounts, weightBytes };
}

/** The groups of one shape, which take turns case by case. */
async function measureGroups(
  device: Device,
  keys: readonly GroupName[],
  options: ReadOptions,
  contenders: readonly Subject[],
): Promise<MeasuredGroup[]> {
  const [{ threads }] = keys as readonly [GroupName];
  const readMemory = (seconds: number) => measureReadRate(seconds, threads);
  const groups = keys.map((key) => {
    const { dtype, format, tokenFormat } = key;
    const onCpu = device.kind === "cpu";
    const kernel = onCpu ? loadNative().productKernel(dtype, tokenFormat, weightFormat(format).name) : null;
    return { key, kernel, caseOptions: caseOptionsOf(key, options), results: [] as MeasuredResult[] };
  });
  const operators = wantedOperators(options);
  const total = keys.length * options.tokens.length * operators.length;
  const progress = (done: number): void => options.onProgress({ group: groupsText(keys), done, total });
  let done = 0;
  progress(done);
  for (const operatorCase of operators) {
    // Contenders get copies of their own.
    const copies = contenders.some((contender) => operatorOf(contender, operatorCase?.operator ?? "layer")) ? 2 : 1;
    const bytesOf = ({ caseOptions }: (typeof groups)[number]) => copies * heldBytes(operatorCase, caseOptions);
    // Others read what caches hold.
    const fromMemory = groups.some((group) => bytesOf(group) >= bytesBeyondCaches());
    const readRate = device.kind === "cpu" && fromMemory ? readMemory : null;
    const limit = memoryLimit(options);
    for (const [index, part] of dividedByBytes(groups, bytesOf, limit).entries()) {
      const apart = index === 0 ? null : apartText(groups.map(bytesOf), limit);
      const generators = part.map(({ caseOptions }) =>
        operatorCase ? operatorBenchCases(device, operatorCase, caseOptions) : layerCases(device, caseOptions),
      );
      for await (const cases of inStep(generators)) {
        const measured = await race(device, cases, { ...options, contenders, readRate });
        measured.forEach((result, position) => {
          const timesFirst = apart === null ? result.timesFirst : null;
          part[position]?.results.push({ ...result, timesFirst, apart });
        });
        done += cases.length;
        progress(done);
      }
    }
  }
  return groups.map(({ key, kernel, results }) => ({ ...key, kernel, results }));
}

function apartText(bytes: readonly number[], limit: number): string {
  const all = bytes.reduce((sum, one) => sum + one, 0);
  return `the weights of all take about ${formatBytes(all)}, of which ${formatBytes(limit)} may be held`;
}

/** The next cases of all generators at a time, as long as all have one; ends them all. */
async function* inStep(generators: readonly AsyncGenerator<BenchCase>[]): AsyncGenerator<BenchCase[]> {
  try {
    for (;;) {
      const cases: BenchCase[] = [];
      for (const generator of generators) {
        const { done, value } = await generator.next();
        if (done) return;
        cases.push(value);
      }
      yield cases;
    }
  } finally {
    for (const generator of generators) await generator.return(undefined);
  }
}

function withCeilings(group: MeasuredGroup, ceilings: Ceilings | null): BenchGroup {
  const { kernel } = group;
  const results = group.results.map(({ worked, readGBs, ...result }): BenchResult => {
    if (ceilings === null || kernel === null) return { ...result, readGBs: null, floor: null, ofCeiling: null };
    const rates = readGBs ?? worked.map(() => ceilings.readGBs);
    return { ...result, ...boundOf(result, ceilings, rates, kernel, worked) };
  });
  return { ...group, ceilings, results };
}
