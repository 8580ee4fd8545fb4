import { type Device, isMoeError } from "../../lib/index.js";

/** How a call ended that did not fail. */
export type Outcome = "compared" | "accepted" | "refused";

/** One call, or a few that belong together, drawn from a seed: told first, so that a crash leaves a reproduction. */
export interface Step {
  /** What is called, as JavaScript where that is possible. */
  readonly source: string;
  /** Throws a {@link Failure} for a wrong result; any error that users are not promised is one too. */
  run(device: Device): Promise<Outcome>;
  /** Smaller steps that may fail in the same way, the most promising first. */
  smaller?(): Iterable<Step>;
}

/** A wrong result. */
export class Failure extends Error {}

/** Runs a call; an error that the package promises is a refusal. */
export async function refusedOr(call: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await call();
  } catch (error) {
    if (isPromised(error)) return "refused";
    throw error;
  }
}

function isPromised(error: unknown): boolean {
  if (isMoeError(error)) return error.code !== "INTERNAL" && error.message.length > 0;
  return error instanceof Error && error.name === "AbortError";
}
