import { Failure } from "./step.js";

/** What allocates as much as a number says: constructors and static functions of the global object, and bytes per unit. */
const constructors = {
  ArrayBuffer: 1,
  Uint8Array: 1,
  Int8Array: 1,
  Uint16Array: 2,
  Int16Array: 2,
  Uint32Array: 4,
  Int32Array: 4,
  Float32Array: 4,
  Float64Array: 8,
  BigUint64Array: 8,
  BigInt64Array: 8,
  Array: 8,
} as const;
const bufferFunctions = ["alloc", "allocUnsafe", "allocUnsafeSlow"] as const;

type Global = Record<string, { new (...args: unknown[]): object }>;
type Allocate = (size: number) => Buffer;

/**
 * Runs `run`, in which an allocation of more than `limit` bytes at once fails with a {@link Failure} and is not made: a
 * count in a file must be compared with the file's size before it decides how much memory is asked for.
 */
export async function withAllocationLimit<T>(limit: number, run: () => Promise<T>): Promise<T> {
  const scope = globalThis as unknown as Global;
  const buffer = Buffer as unknown as Record<string, Allocate>;
  const check = (what: string, size: unknown, bytes: number) => {
    if (typeof size !== "number" || !(size * bytes > limit)) return;
    throw new Failure(`${what} of ${size * bytes} bytes at once, more than ${limit}`);
  };
  const restore: (() => void)[] = [];
  for (const [name, bytes] of Object.entries(constructors)) {
    const original = scope[name] as Global[string];
    scope[name] = new Proxy(original, {
      construct(target, args, newTarget) {
        check(name, sizeOf(args[0]), bytes);
        return Reflect.construct(target, args, newTarget === scope[name] ? target : newTarget);
      },
    });
    restore.push(() => {
      scope[name] = original;
    });
  }
  for (const name of bufferFunctions) {
    const original = buffer[name] as Allocate;
    buffer[name] = (size) => {
      check(`Buffer.${name}`, size, 1);
      return original.call(Buffer, size);
    };
    restore.push(() => {
      buffer[name] = original;
    });
  }
  try {
    return await run();
  } finally {
    for (const undo of restore) undo();
  }
}

/** How many elements a constructor is asked for; views of a buffer allocate nothing. */
function sizeOf(argument: unknown): unknown {
  if (typeof argument !== "object" || argument === null) return argument;
  if (argument instanceof ArrayBuffer || argument instanceof SharedArrayBuffer) return 0;
  return (argument as { length?: unknown }).length;
}
