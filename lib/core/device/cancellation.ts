import { invalidArgument } from "../errors.js";
import { attempt } from "../input/foreign.js";
import type { Reader } from "../input/options.js";
import type { CancellationHandle } from "./backend.js";
import type { Device } from "./device.js";

export const abortSignal: Reader<AbortSignal> = (value, name) => {
  const methods = attempt(name, () => {
    const { throwIfAborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
    return [throwIfAborted, addEventListener];
  });
  if (methods.every((method) => typeof method === "function")) return value as AbortSignal;
  throw invalidArgument(name, "an AbortSignal", value);
};

/** Cancels a signal's work on one device. The reference is weak, so that a long-lived signal does not keep devices alive. */
interface Cancellation {
  readonly device: WeakRef<Device>;
  readonly handle: CancellationHandle;
}

/** By signal. Each signal has one listener, however much work and however many devices it is for. */
const cancellations = new WeakMap<AbortSignal, Set<Cancellation>>();

function cancellationOf(device: Device, signal: AbortSignal): CancellationHandle {
  const all = cancellations.get(signal) ?? listenTo(signal);
  for (const each of all) {
    const other = each.device.deref();
    if (other === device) return each.handle;
    if (other === undefined || other.disposed) all.delete(each);
  }
  const made = { device: new WeakRef(device), handle: device.backend.cancellation() };
  all.add(made);
  return made.handle;
}

/** Makes the set of a signal's cancellations, and cancels them all once it is aborted. */
function listenTo(signal: AbortSignal): Set<Cancellation> {
  const all = new Set<Cancellation>();
  const cancel = () => {
    const reason = reasonOf(signal);
    for (const { handle } of all) handle.cancel(reason);
  };
  attempt("signal", () => signal.addEventListener("abort", cancel, { once: true }));
  cancellations.set(signal, all);
  return all;
}

/** A foreign signal's getter may throw: nobody could catch that in a listener, and the work must be cancelled all the same. */
export function reasonOf(signal: AbortSignal): unknown {
  try {
    return signal.reason;
  } catch (thrown) {
    return thrown;
  }
}

/**
 * Calls `enqueue`; the work that it enqueues does not run if the signal is aborted before it begins.
 * @throws the signal's reason if it is aborted already.
 */
export function withSignal<T>(device: Device, signal: AbortSignal | undefined, enqueue: () => T): T {
  if (signal === undefined) return enqueue();
  signal.throwIfAborted();
  return cancelledBy(cancellationOf(device, signal), device, enqueue);
}

/** Calls `enqueue` for work whose results later calls need too: it runs even if the signal of this call is aborted. */
export function withoutSignal<T>(device: Device, enqueue: () => T): T {
  return cancelledBy(null, device, enqueue);
}

/** What cancels the work that is being enqueued, on one device at a time. */
let active: CancellationHandle | null = null;

function cancelledBy<T>(handle: CancellationHandle | null, { backend }: Device, enqueue: () => T): T {
  const outer = active;
  const set = (cancellation: CancellationHandle | null) => {
    active = cancellation;
    backend.cancelWith(cancellation);
  };
  set(handle);
  try {
    return enqueue();
  } finally {
    set(outer);
  }
}
