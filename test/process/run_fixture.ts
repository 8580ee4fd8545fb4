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

/** Runs `fixtures/<name>.mjs` in a process of its own, on the compiled package. */
export async function runFixture(name: string, device: string, nodeOptions: readonly string[] = []): Promise<Outcome> {
  const path = fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
  const child = spawn(process.execPath, [...nodeOptions, path, device], { stdio: ["ignore", "pipe", "pipe"] });
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
