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

/**
 * The listener of a signal, one however much work and however many devices it is for. It is removed once there is nothing
 * left to cancel, because a signal of AbortSignal.any lives as long as its sources while it has listeners.
 */
class Listener {
  readonly #signal: AbortSignal;
  readonly #cancellations = new Set<Cancellation>();
  readonly #abort = () => {
    const reason = reasonOf(this.#signal);
    for (const { handle } of this.#cancellations) handle.cancel(reason);
  };

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    attempt("signal", () => signal.addEventListener("abort", this.#abort, { once: true }));
  }

  handleOn(device: Device): CancellationHandle {
    for (const each of this.#cancellations) {
      const other = each.device.deref();
      if (other === device) return each.handle;
      if (other === undefined || other.disposed) this.#cancellations.delete(each);
    }
    const made = { device: new WeakRef(device), handle: device.backend.cancellation() };
    this.#cancellations.add(made);
    return made.handle;
  }

  /** Whether work waits that it could cancel. */
  get pending(): boolean {
    return [...this.#cancellations].some(({ handle }) => handle.pending());
  }

  remove(): void {
    try {
      this.#signal.removeEventListener("abort", this.#abort);
      bySignal.delete(this.#signal);
    } catch {
      // A foreign signal may throw, or lack the method: it keeps this listener, which serves it again.
    }
  }
}

const bySignal = new WeakMap<AbortSignal, Listener>();
/** The listeners that were not removed. The references are weak, so that signals without pending work are not kept. */
const listeners = new Set<WeakRef<Listener>>();

function listenerOf(signal: AbortSignal): Listener {
  const known = bySignal.get(signal);
  if (known !== undefined) return known;
  const made = new Listener(signal);
  removeIdle();
  bySignal.set(signal, made);
  listeners.add(new WeakRef(made));
  return made;
}

/**
 * Removes listeners up to the first one that is needed, which goes to the end. Done whenever one is added, so that few more
 * are left than there are signals with pending work.
 */
function removeIdle(): void {
  for (const reference of listeners) {
    const listener = reference.deref();
    listeners.delete(reference);
    if (listener?.pending) {
      listeners.add(reference);
      return;
    }
    listener?.remove();
  }
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
  return cancelledBy(listenerOf(signal).handleOn(device), device, enqueue);
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
