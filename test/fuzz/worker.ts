import { ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, type DeviceName, openDevice } from "../../lib/index.js";
import { publicCalls } from "../support/public_calls/index.js";
import { caseStep } from "./case_step.js";
import { Draw } from "./draw.js";
import { fileStep, findModels } from "./file_step.js";
import { ggufStep } from "./gguf_step.js";
import { hostileStep, type Target } from "./hostile_step.js";
import { ggufReaderStep, safetensorsReaderStep } from "./reader_step.js";
import type { Outcome, Step } from "./step.js";

// Runs rounds in a process of their own, and tells the script that started it of each: see scripts/fuzz.mjs.

/** What the script passes. */
interface Job {
  readonly seed: string;
  readonly golden: string;
  /** Where the step that is about to run is written down. */
  readonly log: string;
  readonly devices: readonly DeviceName[];
  readonly stepsOfRound: number;
  readonly round: number;
  /** The first round that is not run. At least one is, and no more begin after `seconds`. */
  readonly end: number;
  readonly seconds: number;
  /** To run a single step again. */
  readonly step?: number;
  /** The only kind of step to run. */
  readonly only?: StepKind;
}

type StepKind = "case" | "hostile" | "file" | "gguf" | "read-safetensors" | "read-gguf";

/** What the script is told. */
export type Message =
  | { readonly kind: "round"; readonly round: number; readonly outcomes: Readonly<Record<Outcome, number>> }
  | { readonly kind: "failure"; readonly place: string; readonly source: string; readonly error: string };

/** Smaller steps that are tried for one that failed. */
const mostShrinks = 300;

const job = JSON.parse(process.argv[2] as string) as Job;
const folder = mkdtempSync(join(tmpdir(), "moe-kernels-fuzz-"));
const log = openSync(job.log, "w");
const models = findModels(job.golden);
const devices = job.devices.map((name) => openDevice(name, { poison: true, threads: 2 }));
const closers: (() => Promise<void>)[] = [];
const targets = new Map<Device, Target>();
for (const [index, device] of devices.entries()) {
  const files = join(folder, device.name);
  mkdirSync(files);
  const { calls, close } = await publicCalls(device, files);
  closers.push(close);
  const other = devices[(index + 1) % devices.length] as Device;
  targets.set(device, { calls, other: other === device ? openDevice("reference") : other });
}

const deadline = performance.now() + 1000 * job.seconds;
try {
  for (let round = job.round; round === job.round || (round < job.end && performance.now() < deadline); round++) {
    const outcomes = { compared: 0, accepted: 0, refused: 0 };
    const steps = job.step === undefined ? Array.from({ length: job.stepsOfRound }, (_, step) => step) : [job.step];
    for (const index of steps) await runStep(round, index, outcomes);
    tell({ kind: "round", round, outcomes });
  }
} finally {
  for (const close of closers) await close();
  for (const device of devices) device.dispose();
  rmSync(folder, { recursive: true, force: true });
}
process.disconnect?.();

async function runStep(round: number, index: number, outcomes: Record<Outcome, number>): Promise<void> {
  const draw = new Draw(`${job.seed} ${round} ${index}`);
  const kind = draw.integer(0, 99);
  const drawn = kind < 50 ? "case" : kind < 85 ? "hostile" : kind < 95 ? "file" : "gguf";
  const step = makeStep(job.only ?? drawn, draw);
  for (const device of devices) {
    note(`round ${round}, step ${index}, ${device.name}: ${step.source}`);
    try {
      outcomes[await step.run(device)]++;
    } catch (error) {
      const [smallest, last] = await shrink(step, device, error);
      const place = `--seed ${job.seed} --round ${round} --step ${index} --device ${device.name}`;
      tell({ kind: "failure", place, source: smallest.source, error: textOf(last) });
    }
  }
}

function makeStep(kind: StepKind, draw: Draw): Step {
  switch (kind) {
    case "case":
      return caseStep(draw);
    case "hostile":
      return hostileStep(draw, targets);
    case "file":
      return fileStep(draw, models, join(folder, "model"));
    case "gguf":
      return ggufStep(draw, join(folder, "gguf"));
    case "read-safetensors":
      return safetensorsReaderStep(draw, join(folder, "readers"));
    case "read-gguf":
      return ggufReaderStep(draw, join(folder, "readers"));
  }
}

/** The smallest step found that fails with an error of the same class, and its error. */
async function shrink(step: Step, device: Device, error: unknown): Promise<[Step, unknown]> {
  let smallest: [Step, unknown] = [step, error];
  let tried = 0;
  for (let found = true; found; ) {
    found = false;
    for (const smaller of smallest[0].smaller?.() ?? []) {
      if (++tried > mostShrinks) return smallest;
      note(`shrinking, ${device.name}: ${smaller.source}`);
      const failure = await failureOf(smaller, device);
      if (failure === undefined || classOf(failure) !== classOf(error)) continue;
      smallest = [smaller, failure];
      found = true;
      break;
    }
  }
  return smallest;
}

async function failureOf(step: Step, device: Device): Promise<unknown> {
  try {
    await step.run(device);
    return undefined;
  } catch (error) {
    return error;
  }
}

function classOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return `${(error as Error)?.constructor?.name} ${typeof code === "string" ? code : ""}`;
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function note(text: string): void {
  ftruncateSync(log);
  writeSync(log, text, 0);
}

function tell(message: Message): void {
  process.send?.(message);
}
