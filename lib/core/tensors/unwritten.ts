/** Memory of tensors whose zeros stand for values that are still to come, such as the gradients of a backward pass. */
const unwritten = new WeakSet<object>();

/** What identifies a tensor's memory, which it shares with its views. */
interface InMemory {
  readonly memory: object;
}

export function markUnwritten({ memory }: InMemory): void {
  unwritten.add(memory);
}

/** Called by whatever writes to a tensor. */
export function markWritten({ memory }: InMemory): void {
  unwritten.delete(memory);
}

export function isUnwritten({ memory }: InMemory): boolean {
  return unwritten.has(memory);
}
