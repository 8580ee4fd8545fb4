/**
 * Awaits what code from outside promises. Once the event loop is empty, nothing can settle a promise any more: then this rejects,
 * where the process would end without a word.
 */
export async function settled<T>(promise: T | PromiseLike<T>): Promise<T> {
  let end = () => {};
  const never = new Promise<never>((_resolve, reject) => {
    const error = new Error("a promise is awaited that nothing can settle any more");
    // The rejection is an event of the loop, which goes on with it.
    end = () => setImmediate(() => reject(error));
  });
  process.once("beforeExit", end);
  try {
    return await Promise.race([promise, never]);
  } finally {
    process.off("beforeExit", end);
  }
}
