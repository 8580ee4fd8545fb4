import { abortSignal } from "../../core/device/cancellation.js";
import { callback, type Fields, object, optional } from "../../core/input/options.js";
import type { TransferOptions } from "./regular_file.js";

/** Options for opening a file. */
export interface OpenOptions {
  /** Stops the reading of headers; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export const transferFields = {
  onProgress: optional(callback<(bytesDone: number, bytesTotal: number) => void>()),
  signal: optional(abortSignal),
} satisfies Fields<TransferOptions>;
export const transferOptions = object(transferFields, "{ onProgress, signal }");

export const openOptions = object({ signal: optional(abortSignal) } satisfies Fields<OpenOptions>, "{ signal }");
