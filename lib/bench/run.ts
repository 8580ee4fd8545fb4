import { setTimeout } from "node:timers/promises";
import type { Device } from "../core/device.js";
import { cannotCombine, invalidArgument } from "../core/errors.js";
import { type Ceilings, loadNative } from "../core/native.js";
import {
  callback,
  choice,
  type Fields,
  integer,
  list,
  object,
  optional,
  positive,
  record,
  text,
  unchecked,
} from "../core/options.js";
import { type TokenFormat, tokenFormats } from "../core/token_format.js";
import type { WeightFormatName } from "../core/weight_format.js";
import { isPlain, weightFormat } from "../core/weight_formats.js";
import { type DeviceName, openDevice } from "../devices.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { checkSubject } from "../testing/subject/run_cases.js";
import type { Subject, SubjectInputs, SubjectOperator } from "../testing/subject/subject.js";
import { type BenchCase, bytesBeyondCaches, type CaseOptions } from "./bench_case.js";
import { betterOf, floorSeconds, measureCeilings } from "./ceilings.js";
import { type ContenderCheck, checkContender, compareOutputs, expectedOf } from "./contenders/check.js";
import { contenderProblem, contendersOf, isComparable, operatorCaseOf } from "./contenders/problem.js";
import { contenderTurns } from "./contenders/time.js";
import { layerCases } from "./layer_cases.js";
import { describeMachine } from "./machine.js";
import { type CallTimes, inTurns, ratios, summarize, timeCalls } from "./measure.js";
import { operatorBenchCases } from "./operator_cases.js";
import type { BenchDType } from "./operators/draw.js";
import { caseNames, wantedCases } from "./operators/table.js";
import { type BenchGroup, type BenchReport, type BenchResult, type ContenderResult, groupText } from "./report.js";

export const benchDTypes = ["f32", "f16", "bf16"] as const satisfies readonly BenchDType[];

/** Options of {@link runBenchmark}. */
export interface BenchmarkOptions {
  /** Layers to time by names of your choice. */
  shapes: Readonly<Record<string, MoeLayerConfig>>;
  /** Default cpu. */
  device?: DeviceName;
  /** Of tokens; default bf16. */
  dtypes?: readonly BenchDType[];
  /** Of the experts' weights; default that of the tokens. */
  formats?: readonly WeightFormatName[];
  /** What products with quantised weights round tokens to; default none. */
  tokenFormats?: readonly TokenFormat[];
  /** T of each call; default 1, 8, 64 and 512. */
  tokens?: readonly number[];
  /** Threads of the device, one device for each number; default all CPUs. */
  threads?: readonly number[];
  /** Only cases whose names contain one of these texts; default all. */
  operators?: readonly string[];
  /** Approximate time for each case and contender; default 0.3. */
  seconds?: number;
  /** Turns that this time is divided into; default 7. */
  rounds?: number;
  /** Calls between two waits; default 1. */
  calls?: number;
  /** Bytes of the copies of the weights that calls rotate through; default 256 MiB. */
  weightBytes?: number;
  /** Other implementations, as `moe-kernels/testing` takes them. */
  contenders?: readonly Subject[];
  /** Called before each case, and once after the last one of a group. */
  onProgress?: (progress: BenchProgress) => void;
}

/** Where a benchmark is. */
export interface BenchProgress {
  /** Shape, dtype and so on. */
  readonly group: string;
  /** Cases done. */
  readonly done: number;
  /** Cases of this group. */
  readonly total: number;
}

const benchmarkOptions = object(
  {
    shapes: record(unchecked, "{ D: { hiddenSize: 512, ... } }"),
    device: optional(text, "cpu"),
    dtypes: optional(list(choice(benchDTypes)), ["bf16"]),
    formats: optional(list(text)),
    tokenFormats: optional(list(choice(tokenFormats)), ["none"]),
    tokens: optional(list(integer(1)), [1, 8, 64, 512]),
    threads: optional(list(integer(1, 4096))),
    operators: optional(list(text), [""]),
    seconds: optional(positive, 0.3),
    rounds: optional(integer(1), 7),
    calls: optional(integer(1), 1),
    weightBytes: optional(integer(0), bytesBeyondCaches),
    contenders: optional(list(unchecked), []),
    onProgress: optional(callback<NonNullable<BenchmarkOptions["onProgress"]>>(), () => {}),
  } satisfies Fields<BenchmarkOptions>,
  "{ shapes: { D: { hiddenSize: 512, ... } } }",
);
type ReadOptions = ReturnType<typeof benchmarkOptions>;

/** Before every turn beside contenders: the threads of the last one may spin for a while before they sleep. */
const pauseMilliseconds = 20;

/**
 * Times layers and operators, and contenders beside them, in turns. Calls rotate through inputs and copies of weights, so
 * that weights come from memory. Contenders get the same numbers, and must give what `reference` computes in float64.
 * @throws INVALID_ARGUMENT, and what opening the device throws.
 */
export async function runBenchmark(options: BenchmarkOptions): Promise<BenchReport> {
  const read = benchmarkOptions(options, "options");
  const contenders = read.contenders.map((contender) => {
    checkSubject(contender);
    return contender;
  });
  if (contenders.length > 0 && read.calls > 1) throw cannotCombine("contenders", "calls");
  if (!caseNames.some(wantedCases(read.operators))) {
    throw invalidArgument("operators", `part of one of ${caseNames.join(", ")}`, read.operators.join(", "));
  }
  const groups: BenchGroup[] = [];
  let description = "";
  let threads: readonly number[] = [];
  try {
    threads = read.threads ?? [loadNative().cpuInfo().usableCpus];
    for (const count of threads) {
      using device = openDevice(read.device as DeviceName, { threads: count });
      description = device.description;
      let before = await ceilingsOf(device, count);
      for (const key of keysOf(read)) {
        const measured = await measureGroup(device, { ...key, threads: count }, read, contenders);
        const after = await ceilingsOf(device, count);
        groups.push(withCeilings(measured, before && after && betterOf(before, after)));
        before = after;
      }
    }
  } finally {
    for (const contender of contenders) await contender.close?.();
  }
  const { rounds, calls, device } = read;
  const machine = describeMachine(Math.max(...threads));
  return { kind: "moe-kernels bench", machine, device, description, rounds, calls, groups };
}

async function ceilingsOf({ kind }: Device, threads: number): Promise<Ceilings | null> {
  return kind === "cpu" ? await measureCeilings({ threads }) : null;
}

/** Before the ceilings are known. */
type MeasuredResult = Omit<BenchResult, "floor" | "ofCeiling">;
type MeasuredGroup = Omit<BenchGroup, "ceilings" | "results"> & { readonly results: readonly MeasuredResult[] };

type GroupKey = Pick<BenchGroup, "shape" | "dtype" | "format" | "tokenFormat">;

/** All combinations. Tokens are rounded for quantised weights only. */
function keysOf({ shapes, dtypes, formats, tokenFormats: rounded }: ReadOptions): GroupKey[] {
  const keys = Object.keys(shapes).flatMap((shape) =>
    dtypes.flatMap((dtype) =>
      (formats ?? [dtype]).flatMap((name) => {
        const format = weightFormat(name, "formats");
        return rounded
          .filter((tokenFormat) => tokenFormat === "none" || !isPlain(format))
          .map((tokenFormat) => ({ shape, dtype, format: name as WeightFormatName, tokenFormat }));
      }),
    ),
  );
  if (keys.length === 0) {
    throw invalidArgument("tokenFormats", "none among them where weights are not quantised", rounded.join(", "));
  }
  return keys;
}

async function measureGroup(
  device: Device,
  key: GroupKey & { readonly threads: number },
  options: ReadOptions,
  contenders: readonly Subject[],
): Promise<MeasuredGroup> {
  const { dtype, format, tokenFormat } = key;
  const wanted = wantedCases(options.operators);
  const caseOptions: CaseOptions = {
    config: options.shapes[key.shape] as MoeLayerConfig,
    ...{ dtype, format, tokenFormat, tokenCounts: options.tokens, weightBytes: options.weightBytes, wanted },
  };
  const total = options.tokens.length * caseNames.filter(wanted).length;
  const group = groupText(key);
  options.onProgress({ group, done: 0, total });
  const onCpu = device.kind === "cpu";
  const kernel = onCpu ? loadNative().productKernel(dtype, tokenFormat, weightFormat(format).name) : null;
  const results: MeasuredResult[] = [];
  for await (const benchCase of casesOf(device, caseOptions)) {
    results.push(await measureCase(device, benchCase, caseOptions, options, contenders));
    options.onProgress({ group, done: results.length, total });
  }
  return { ...key, kernel, results };
}

/** Weights of the layer are created only if it is wanted. */
async function* casesOf(device: Device, options: CaseOptions): AsyncGenerator<BenchCase> {
  if (options.wanted("layer")) yield* layerCases(device, options);
  yield* operatorBenchCases(device, options);
}

async function measureCase(
  device: Device,
  benchCase: BenchCase,
  caseOptions: CaseOptions,
  { seconds, rounds, calls }: ReadOptions,
  contenders: readonly Subject[],
): Promise<MeasuredResult> {
  const { name, tokens, operations, bytes } = benchCase;
  const compared = await prepare(benchCase, caseOptions, contenders);
  const racing = compared.contenders.filter(({ check }) => check.failure === null);
  const turnSeconds = seconds / rounds;
  await timeCalls(device, benchCase, 0, calls);
  const pause = racing.length > 0 ? pauseMilliseconds : 0;
  const own: Prepared["turn"] = (time) => timeCalls(device, benchCase, time, calls);
  const turns = [own, ...racing.map(({ turn }) => turn)].map((turn) => async () => {
    if (pause > 0) await setTimeout(pause);
    return turn(turnSeconds);
  });
  const [ours, ...theirs] = (await inTurns<CallTimes[]>(turns, rounds)) as [CallTimes[][], ...CallTimes[][][]];
  const all = ours.flat();
  const total = summarize(all.map((times) => times.total));
  const onDevice = all.flatMap((times) => times.device ?? []);
  const deviceTimes = onDevice.length > 0 ? summarize(onDevice) : null;
  const worked = (deviceTimes ?? total).median;
  return {
    ...{ name, tokens, operations, bytes, total },
    call: summarize(all.map((times) => times.call)),
    device: deviceTimes,
    gflops: operations / worked / 1e9,
    gbs: bytes / worked / 1e9,
    errors: compared.ours,
    contenders: compared.contenders.map((contender): ContenderResult => {
      const { of, check } = contender;
      const turnsOfIt = theirs[racing.indexOf(contender)];
      return {
        ...{ name: contender.name, of, errors: check.errors, failure: check.failure },
        total: turnsOfIt ? summarize(turnsOfIt.flat().map((times) => times.total)) : null,
        timesOurs: turnsOfIt ? ratios(turnsOfIt.map(medianTotal), ours.map(medianTotal)) : null,
      };
    }),
  };
}

const medianTotal = (round: readonly CallTimes[]): number => summarize(round.map(({ total }) => total)).median;

interface Prepared {
  readonly name: string;
  readonly of: string;
  readonly check: ContenderCheck;
  turn(seconds: number): Promise<CallTimes[]>;
}

/** Checks the first call of every contender that has the operator, and of ours. */
async function prepare(
  benchCase: BenchCase,
  options: CaseOptions,
  contenders: readonly Subject[],
): Promise<{ ours: BenchResult["errors"]; contenders: readonly Prepared[] }> {
  const operatorCase = operatorCaseOf(benchCase.name);
  const able = operatorCase && isComparable(operatorCase, options) ? contendersOf(operatorCase, contenders) : [];
  if (operatorCase === undefined || able.length === 0) return { ours: null, contenders: [] };
  const problem = contenderProblem(operatorCase, options, benchCase.tokens);
  const { operator } = operatorCase;
  const supporting = able.filter(({ supports }) => supports?.(operator, problem.calls[0] as SubjectInputs) !== false);
  if (supporting.length === 0) return { ours: null, contenders: [] };
  const expected = await expectedOf(problem);
  const prepared: Prepared[] = [];
  for (const contender of supporting) {
    const check = await checkContender(contender, problem, expected);
    const turn = contenderTurns(contender.operators[operator] as SubjectOperator, problem.calls);
    prepared.push({ name: contender.name, of: expected.sample.text, check, turn });
  }
  return { ours: compareOutputs(expected, await benchCase.firstOutputs()), contenders: prepared };
}

function withCeilings(group: MeasuredGroup, ceilings: Ceilings | null): BenchGroup {
  const { kernel } = group;
  const results = group.results.map((result): BenchResult => {
    if (ceilings === null || kernel === null) return { ...result, floor: null, ofCeiling: null };
    const floor = floorSeconds(result, ceilings, kernel);
    return { ...result, floor, ofCeiling: floor / (result.device ?? result.total).median };
  });
  return { ...group, ceilings, results };
}
