import { styleText } from "node:util";
import type { DeviceInfo } from "../../core/addon/native.js";
import { isMoeError, MoeError } from "../../core/errors.js";
import { printable } from "../../core/text/printable.js";
import { type DeviceName, listDevices, openDevice } from "../../devices.js";
import { formatMicroseconds, plural } from "../../terminal/format.js";
import { integerOption, listOption, UsageError } from "../../terminal/option_values.js";
import { passMark } from "../../terminal/pass_mark.js";
import { startProgress } from "../../terminal/progress.js";
import type { Case } from "../../testing/case.js";
import { caseContains } from "../../testing/case_filter.js";
import { differenceText } from "../../testing/difference.js";
import { worstErrors } from "../../testing/reports/worst_errors.js";
import { type CaseResult, runCase } from "../../testing/run.js";
import { cases } from "../../testing/table.js";
import { defineCommand } from "../command.js";
import { type Io, writeJson } from "../io.js";
import { checkDevices } from "../options/devices.js";
import { givenThreads, threadsOption } from "../options/threads.js";
import { verifySubject } from "../subjects/verify_subject.js";

/** The results of one device. */
interface Verification {
  readonly device: string;
  readonly seconds: number;
  readonly results: readonly CaseResult[];
}

const mostRepeats = 1_000_000;

/** `verify`: compares this machine's devices with `reference` on the whole case table. */
export const verify = defineCommand({
  synopsis: "[--device NAME | --subject FILE] [--filter TEXT] [--report FILE] [--json]",
  options: {
    device: { type: "string", multiple: true, value: "NAME", help: "devices, repeated or comma-separated (all)" },
    filter: { type: "string", value: "TEXT", help: "only cases whose operator and name contain this" },
    subject: {
      type: "string",
      value: "FILE",
      help: "another implementation: a module whose default export is a subject",
    },
    seed: { type: "string", value: "N", help: "other numbers for a subject (0)" },
    repeat: {
      type: "string",
      value: "N",
      default: "1",
      help: "compute every case N times; every time must give the same values (1)",
    },
    timeout: {
      type: "string",
      value: "SECONDS",
      help: "time for each promise of a subject, and to load it (900)",
    },
    report: {
      type: "string",
      multiple: true,
      value: "FILE",
      help: "write a subject's report as .json, .xml (JUnit) or .html",
    },
    threads: threadsOption,
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io) {
    const repeat = integerOption("repeat", values.repeat, 1, mostRepeats);
    if (values.subject !== undefined) return verifySubject({ ...values, subject: values.subject, repeat }, io);
    for (const option of ["seed", "timeout", "report"] as const) {
      if (values[option] !== undefined) throw new UsageError(`--${option} needs --subject`);
    }
    const selected = cases.filter((one) => caseContains(one, values.filter ?? ""));
    if (selected.length === 0) throw new UsageError(`--filter: no case's operator and name contain "${values.filter}"`);
    const named = listOption("device", values.device);
    checkDevices(named as DeviceName[]);
    const known = listDevices();
    const here = known.filter(({ available }) => available).map(({ name }) => name);
    const devices = (named.length > 0 ? named : here) as DeviceName[];
    const leftOut = named.length > 0 ? [] : known.filter(({ available }) => !available);
    const threads = givenThreads(values.threads);

    const verifications: Verification[] = [];
    for (const device of devices) {
      const verification = await verifyDevice(device, { ...threads, repeat }, selected, io);
      if (!values.json) print(verification, io);
      verifications.push(verification);
    }
    // Every build has a CPU device: without it, only the reference was compared, with itself.
    const complete = !leftOut.some(({ kind }) => kind === "cpu");
    const passed = complete && verifications.every(({ results }) => results.every((result) => result.passed));
    if (values.json) writeJson(io.stdout, { passed, devices: verifications, leftOut });
    else printLeftOut(leftOut, io);
    return passed ? 0 : 1;
  },
});

async function verifyDevice(
  name: DeviceName,
  { repeat, ...options }: { threads?: number; repeat: number },
  selected: readonly Case[],
  io: Io,
): Promise<Verification> {
  using device = openDevice(name, { ...options, poison: true });
  const begin = performance.now();
  const progress = startProgress(io.stderr, `Verifying ${device.name}`, selected.length);
  const results: CaseResult[] = [];
  try {
    for (const testCase of selected) {
      try {
        results.push(await runCase(testCase, device, repeat));
      } catch (error) {
        throw inCase(testCase, error);
      }
      progress.update(results.length);
    }
  } finally {
    progress.stop();
  }
  return { device: device.name, seconds: (performance.now() - begin) / 1e3, results };
}

/** The error with the case's name: after a kernel that failed, no other case can run on a GPU. */
function inCase({ operator, name }: Case, error: unknown): unknown {
  if (!isMoeError(error)) return error;
  return new MoeError(error.code, `${operator} ${name}: ${error.message}`, { cause: error });
}

/** Lists the devices that were not verified, in red the one that every installation should have. */
function printLeftOut(leftOut: readonly DeviceInfo[], { stdout }: Io): void {
  for (const { name, kind, detail } of leftOut) {
    const mark = kind === "cpu" ? passMark(false, stdout) : styleText("yellow", "-", { stream: stdout });
    stdout.write(`${mark} ${name} was left out: ${printable(detail)}\n`);
  }
  if (leftOut.some(({ kind }) => kind === "cpu")) {
    stdout.write("Not verified: without the native addon only the reference works. See moe-kernels info.\n");
  }
}

function print({ device, seconds, results }: Verification, io: Io): void {
  const { stdout } = io;
  const failed = results.filter(({ passed }) => !passed);
  const passed = failed.length === 0;
  const mark = passMark(passed, stdout, passed ? " passed" : ` ${failed.length} failed`);
  stdout.write(`${device}: ${plural(results.length, "case")} in ${formatMicroseconds(seconds * 1e6)}, ${mark}\n\n`);
  stdout.write(worstErrors(results));
  stdout.write("\n");
  for (const { operator, name, checks } of failed) {
    for (const check of checks.filter((one) => !one.passed)) {
      stdout.write(`${passMark(false, stdout)} ${operator} ${name}: ${differenceText(check)}\n`);
    }
  }
  if (failed.length > 0) stdout.write("\n");
}
