import { invalidArgument } from "../../core/errors.js";
import { attempt } from "../../core/foreign.js";
import { callback, type Fields, object, optional, type Reader } from "../../core/options.js";
import type { TransferOptions } from "./regular_file.js";

/** Options for opening a file. */
export interface OpenOptions {
  /** Stops the reading of headers; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export const abortSignal: Reader<AbortSignal> = (value, name) => {
  const throwIfAborted = attempt(name, () => (value as Partial<AbortSignal> | null)?.throwIfAborted);
  if (typeof throwIfAborted === "function") return value as AbortSignal;
  throw invalidArgument(name, "an AbortSignal", value);
};

export const transferFields = {
  onProgress: optional(callback<(bytesDone: number, bytesTotal: number) => void>()),
  signal: optional(abortSignal),
} satisfies Fields<TransferOptions>;
export const transferOptions = object(transferFields, "{ onProgress, signal }");

export const openOptions = object({ signal: optional(abortSignal) } satisfies Fields<OpenOptions>, "{ signal }");
