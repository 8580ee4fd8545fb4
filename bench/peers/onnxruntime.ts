import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "#lib/core/addon/package_root.js";
import type { SubjectInputs } from "#lib/testing/subject/subject.js";

/** The programs of peers, with packages of their own. */
export const programsFolder = join(packageRoot(), "bench", "peers", "programs");

/** What to do where onnxruntime-node is not installed; undefined where it is. */
export function onnxruntimeMissing(): string | undefined {
  return existsSync(join(programsFolder, "node_modules", "onnxruntime-node"))
    ? undefined
    : "run node scripts/setup.mjs --peers, which installs onnxruntime-node";
}

/** An operator as a session of onnxruntime, with the inputs of all calls loaded. */
export interface Counterpart {
  /** One call, each time on the next inputs. */
  run(): Promise<unknown>;
  /** What the call on the first inputs gives, by the names of the operator's outputs. */
  firstOutputs(): Promise<Readonly<Record<string, ArrayLike<number>>>>;
  release(): Promise<void>;
}

/** programs/onnxruntime_operators.mjs */
export interface OnnxruntimeOperators {
  /** onnxruntime-node's version. */
  readonly version: string;
  /** Resolves with undefined for an operator without a counterpart. The constants of all calls are those of the first. */
  openCounterpart(operator: string, calls: readonly SubjectInputs[], threads: number): Promise<Counterpart | undefined>;
}

/** Loads onnxruntime-node, which must be installed. */
export async function loadOnnxruntime(): Promise<OnnxruntimeOperators> {
  return await import(pathToFileURL(join(programsFolder, "onnxruntime_operators.mjs")).href);
}
