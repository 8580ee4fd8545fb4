/** Tensors whose zeros stand for values that are still to come, such as the gradients of a backward pass. */
const unwritten = new WeakSet<object>();

export function markUnwritten(tensor: object): void {
  unwritten.add(tensor);
}

/** Called by whatever writes to a tensor. */
export function markWritten(tensor: object): void {
  unwritten.delete(tensor);
}

export function isUnwritten(value: unknown): boolean {
  return unwritten.has(value as object);
}
