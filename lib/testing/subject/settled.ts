/** The timeout of a subject's promises, in seconds, if no other is given. */
export const defaultTimeout = 900;

/** How long each promise of a subject is waited for. */
export interface Patience {
  readonly seconds: number;
  /** Why nothing more is to be asked, once a promise has not settled in time: its work may go on, beside what would follow. */
  end?: string;
}

/** The delay of a timer for so many seconds: timers wait for at most 2^31 - 1 milliseconds. */
export function timerDelay(seconds: number): number {
  return Math.min(1000 * seconds, 2 ** 31 - 1);
}

/**
 * Awaits what code from outside promises, for a limited time if there is a `patience`. Once the event loop is empty, nothing can
 * settle a promise any more: then this rejects, where the process would end without a word.
 */
export async function settled<T>(promise: T | PromiseLike<T>, patience?: Patience): Promise<T> {
  let end = () => {};
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<never>((_resolve, reject) => {
    const error = new Error("a promise is awaited that nothing can settle any more");
    // The rejection is an event of the loop, which goes on with it.
    end = () => setImmediate(() => reject(error));
    if (patience === undefined) return;
    timer = setTimeout(() => {
      patience.end = `a promise did not settle within the timeout of ${patience.seconds} seconds`;
      reject(new Error(patience.end));
    }, timerDelay(patience.seconds));
    // A loop that is empty but for this timer is empty.
    timer.unref();
  });
  process.once("beforeExit", end);
  try {
    return await Promise.race([promise, never]);
  } finally {
    process.off("beforeExit", end);
    clearTimeout(timer);
  }
}
