import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { listDevices } from "../../lib/index.js";

/** The native devices: `cpu` always, so that a missing addon fails; others if this build and machine have them. */
export const nativeDevices = [
  "cpu",
  ...listDevices()
    .filter(({ kind, available }) => available && kind !== "cpu" && kind !== "reference")
    .map(({ name }) => name),
];

/** How a process ended, and its output. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What else a fixture's process is given. */
export interface FixtureOptions {
  /** Arguments after the device. */
  readonly args?: readonly string[];
  /** A library that is loaded before all others. */
  readonly preload?: string;
  /** Bytes of memory that the process may address; all if left out. */
  readonly addressSpace?: number;
}

/** Runs `fixtures/<name>.mjs` in a process of its own, on the compiled package. */
export async function runFixture(
  name: string,
  device: string,
  nodeOptions: readonly string[] = [],
  { args = [], preload, addressSpace }: FixtureOptions = {},
): Promise<Outcome> {
  const path = fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
  const command = [process.execPath, ...nodeOptions, path, device, ...args];
  const limited = ["sh", "-c", `ulimit -v ${Math.ceil((addressSpace ?? 0) / 1024)} && exec "$@"`, "sh", ...command];
  const [program, ...programArgs] = addressSpace === undefined ? command : limited;
  const child = spawn(program as string, programArgs, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...(preload && { LD_PRELOAD: preload }) },
  });
  const output = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      output[stream] += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...output }));
  });
}

/** The result of a process that succeeded after writing `stdout`. */
export function cleanExit(stdout: string): Outcome {
  return { code: 0, signal: null, stdout, stderr: "" };
}
