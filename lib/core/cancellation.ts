import type { CancellationHandle } from "./backend.js";
import type { Device } from "./device.js";
import { invalidArgument } from "./errors.js";
import { attempt } from "./foreign.js";
import type { Reader } from "./options.js";

export const abortSignal: Reader<AbortSignal> = (value, name) => {
  const methods = attempt(name, () => {
    const { throwIfAborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
    return [throwIfAborted, addEventListener];
  });
  if (methods.every((method) => typeof method === "function")) return value as AbortSignal;
  throw invalidArgument(name, "an AbortSignal", value);
};

/** What cancels the work of a signal, by device: a signal is listened to once, however much work it belongs to. */
const cancellations = new WeakMap<Device, WeakMap<AbortSignal, CancellationHandle>>();

function cancellationOf(device: Device, signal: AbortSignal): CancellationHandle {
  const ofDevice = cancellations.get(device) ?? new WeakMap<AbortSignal, CancellationHandle>();
  cancellations.set(device, ofDevice);
  const known = ofDevice.get(signal);
  if (known !== undefined) return known;
  const made = device.backend.cancellation();
  attempt("signal", () => signal.addEventListener("abort", () => made.cancel(), { once: true }));
  ofDevice.set(signal, made);
  return made;
}

/**
 * Calls `enqueue`; the work that it enqueues does not run if the signal is aborted before it begins.
 * @throws the signal's reason if it is aborted already.
 */
export function withSignal<T>(device: Device, signal: AbortSignal | undefined, enqueue: () => T): T {
  if (signal === undefined) return enqueue();
  signal.throwIfAborted();
  const { backend } = device;
  backend.cancelWith(cancellationOf(device, signal));
  try {
    return enqueue();
  } finally {
    backend.cancelWith(null);
  }
}
