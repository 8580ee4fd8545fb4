/** One computation to time. */
export interface BenchCase {
  readonly operator: string;
  /** T */
  readonly tokens: number;
  /** Floating-point operations of one call; a multiply-add is two. Mean over the inputs. */
  readonly operations: number;
  /** Bytes that one call must move: weights of experts that have tokens, inputs and outputs, once each. Likewise. */
  readonly bytes: number;
  /** Enqueues one call, each time on the next inputs. */
  enqueue(): void;
}

/**
 * Weights of one case are held in as many copies as make up this many bytes, and calls take turns: as in a model of
 * many layers, none finds its weights in a cache.
 */
export const bytesBeyondCaches = 256 * 2 ** 20;

/** With few tokens a call touches few experts: more inputs then, so that calls in a row touch different ones. */
export function inputCount(tokens: number): number {
  return tokens <= 8 ? 16 : 4;
}

/** Gives the items in turn, without end. */
export function rotation<T>(items: readonly T[]): () => T {
  let next = 0;
  return () => items[next++ % items.length] as T;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
