/** Not those whose constructors the package compares with each other. */
const kinds = ["Uint8Array", "Int8Array", "Uint32Array"] as const;

/**
 * Calls `work` again and again, and refuses JavaScript one more array of at least `least` bytes each time: first the first, then
 * the second, until a call makes no more.
 * @returns what the calls but the last threw.
 */
export async function refuseArrays(least: number, work: () => Promise<unknown>): Promise<unknown[]> {
  const thrown: unknown[] = [];
  for (;;) {
    const refused = await withRefusal(least, thrown.length, work);
    if (refused === undefined) return thrown;
    thrown.push(refused.error);
  }
}

/** What the call throws in which an array was refused, undefined if none was. */
async function withRefusal(least: number, nth: number, work: () => Promise<unknown>) {
  const own = Object.fromEntries(kinds.map((kind) => [kind, globalThis[kind]]));
  let made = 0;
  const construct = (target: (typeof globalThis)[(typeof kinds)[number]], args: unknown[]) => {
    const isLarge = typeof args[0] === "number" && args[0] * target.BYTES_PER_ELEMENT >= least;
    if (isLarge && made++ === nth) throw new RangeError("Array buffer allocation failed");
    return Reflect.construct(target, args);
  };
  for (const kind of kinds) Object.assign(globalThis, { [kind]: new Proxy(globalThis[kind], { construct }) });
  try {
    await work();
    return made > nth ? { error: new Error("an array was refused, and nothing said so") } : undefined;
  } catch (error) {
    if (made <= nth) throw error;
    return { error };
  } finally {
    Object.assign(globalThis, own);
  }
}
