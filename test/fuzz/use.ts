import { CapturedForward, Device, MoeLayer, PackedExperts, RouterStats, Tensor } from "../../lib/index.js";

/** Values larger than this are not read back. */
const readLimit = 2 ** 20;

/** Reads the tensors of a result and gives back what it holds. */
export async function use(result: unknown): Promise<void> {
  if (result instanceof Tensor) {
    if (result.size <= readLimit) await result.data();
  } else if (result instanceof CapturedForward) {
    result.replay();
    result.dispose();
  } else if ([Device, MoeLayer, PackedExperts, RouterStats].some((owner) => result instanceof owner)) {
    (result as Disposable)[Symbol.dispose]();
  } else if (typeof result === "object" && result !== null && Symbol.asyncDispose in result) {
    await (result as AsyncDisposable)[Symbol.asyncDispose](); // an open file
  } else if (typeof result === "object" && result !== null && Object.getPrototypeOf(result) === Object.prototype) {
    for (const part of Object.values(result)) await use(part);
  }
}
