import { type Device, isMoeError, MoeError } from "../../lib/index.js";
import { ReferenceTensor } from "../../lib/reference/core/tensor.js";

interface Handle {
  free(): void;
}

/** What {@link liveHandles} follows. */
export interface LiveHandles {
  /** Where in the library each was made that has not been freed, sorted. */
  places(): readonly string[];
  /** Refuses the n-th memory that `work` asks for; false if it asks for less. */
  refuse(nth: number, work: () => Promise<void>): Promise<boolean>;
}

/**
 * Follows the handles of a `reference` device that are made from now on, until they are freed. It changes the class of these
 * handles, so a test that uses it is alone in its process.
 */
export function liveHandles({ backend }: Device): LiveHandles {
  let granted = Number.POSITIVE_INFINITY;
  const live = new Map<object, string>();
  const track = <T extends Handle>(handle: T): T => {
    const frames = String(new Error("made").stack).split("\n");
    live.set(handle, frames.filter((frame) => frame.includes("/lib/")).join("\n"));
    return handle;
  };
  const { view, free } = ReferenceTensor.prototype;
  // Those that operators make within the device are none of the callers'.
  ReferenceTensor.prototype.view = function (...place) {
    const made = view.apply(this, place);
    return live.has(this) ? track(made) : made;
  };
  ReferenceTensor.prototype.free = function () {
    live.delete(this);
    free.call(this);
  };
  for (const name of ["empty", "packedExperts", "layer"] as const) {
    const make = backend[name].bind(backend) as (...description: readonly unknown[]) => Handle;
    const tracked = (...description: readonly unknown[]) => {
      if (granted-- === 0) throw new MoeError("OUT_OF_MEMORY", "refused");
      const made = track(make(...description));
      if (made instanceof ReferenceTensor) return made;
      const own = made.free.bind(made);
      return Object.assign(made, {
        free() {
          live.delete(made);
          own();
        },
      });
    };
    Object.assign(backend, { [name]: tracked });
  }
  return {
    places: () => [...live.values()].sort(),
    async refuse(nth, work) {
      granted = nth;
      try {
        await work();
        return false;
      } catch (error) {
        if (!isMoeError(error, "OUT_OF_MEMORY")) throw error;
        return true;
      } finally {
        granted = Number.POSITIVE_INFINITY;
      }
    },
  };
}
