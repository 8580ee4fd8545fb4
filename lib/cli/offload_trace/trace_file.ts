import { MoeError } from "../../core/errors.js";
import { reasonOf } from "../../core/files/reason.js";
import { readText } from "../read_text.js";

/** The experts that one layer's router chose, call after call. */
export interface RoutingTrace {
  readonly numExperts: number;
  /** The ids of all calls, one call after the other. */
  readonly ids: Int32Array;
  /** Where each call ends. */
  readonly ends: Int32Array;
}

/**
 * Reads a trace: a line of JSON for each call, which lists the ids of its experts, in any order and repeated or not, or
 * a list of such ids for each token. -1 is no expert. Empty lines are skipped.
 * @param numExperts E; default one more than the highest id.
 * @throws INVALID_ARGUMENT naming the line, or if the file cannot be read.
 */
export async function readTrace(path: string, numExperts?: number): Promise<RoutingTrace> {
  const ids: number[] = [];
  const ends: number[] = [];
  for (const [index, line] of (await readLines(path)).entries()) {
    if (line.trim() === "") continue;
    for (const id of idsOf(`${path}: line ${index + 1}`, line)) ids.push(id);
    ends.push(ids.length);
  }
  const highest = ids.reduce((most, id) => Math.max(most, id), -1);
  if (highest < 0) throw invalid(path, "a trace with the ids of experts", "none");
  if (numExperts !== undefined && highest >= numExperts) {
    throw invalid(path, `ids below ${numExperts}`, String(highest));
  }
  return { numExperts: numExperts ?? highest + 1, ids: Int32Array.from(ids), ends: Int32Array.from(ends) };
}

/**
 * The trace of layers that share a budget, from those of the layers: every call goes through all of them in turn. Their
 * experts are numbered one layer after the other.
 */
export function traceOfLayers(traces: readonly RoutingTrace[]): RoutingTrace {
  const ids: number[] = [];
  const ends: number[] = [];
  const calls = traces.reduce((most, trace) => Math.max(most, trace.ends.length), 0);
  for (let call = 0; call < calls; call++) {
    let first = 0;
    for (const trace of traces) {
      const end = trace.ends[call];
      if (end !== undefined) {
        for (const id of trace.ids.subarray(trace.ends[call - 1] ?? 0, end)) ids.push(id < 0 ? -1 : first + id);
        ends.push(ids.length);
      }
      first += trace.numExperts;
    }
  }
  const numExperts = traces.reduce((sum, trace) => sum + trace.numExperts, 0);
  return { numExperts, ids: Int32Array.from(ids), ends: Int32Array.from(ends) };
}

async function readLines(path: string): Promise<string[]> {
  try {
    return (await readText(path)).split("\n");
  } catch (cause) {
    throw new MoeError("INVALID_ARGUMENT", `${path}: expected a readable file: ${reasonOf(cause)}`, { cause });
  }
}

/** Experts of a trace are numbered below this, so that tables of them stay small. */
const mostExperts = 2 ** 20;

function idsOf(place: string, line: string): number[] {
  const parsed = parse(place, line);
  if (!Array.isArray(parsed)) throw invalid(place, "a list of expert ids", line);
  const ids = parsed.flat();
  const wrong = ids.find((id) => !Number.isInteger(id) || id < -1 || id >= mostExperts);
  if (wrong !== undefined) throw invalid(place, `ids from -1 to ${mostExperts - 1}`, JSON.stringify(wrong));
  return ids;
}

function parse(place: string, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw invalid(place, "a list of expert ids in JSON", line);
  }
}

function invalid(place: string, expected: string, actual: string): MoeError {
  const short = actual.length > 60 ? `${actual.slice(0, 57)}...` : actual;
  return new MoeError("INVALID_ARGUMENT", `${place}: expected ${expected}, got ${short}`);
}
