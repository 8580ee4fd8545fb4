import type { FloatDType } from "#lib/core/dtype.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import type { GatingRuleOptions } from "#lib/operators/routing/gating_options.js";

/** One computation to time. */
export interface BenchCase {
  readonly operator: string;
  /** T */
  readonly tokens: number;
  /** Floating-point operations of one call, averaged over the inputs; a multiply-add counts as two. */
  readonly operations: number;
  /**
   * Bytes that one call must move, averaged over the inputs: weights of experts that have tokens, inputs and outputs,
   * once each.
   */
  readonly bytes: number;
  /** Enqueues one call, each time on the next inputs. */
  enqueue(): void;
}

/** What to make cases for. */
export interface CaseOptions {
  readonly config: MoeLayerConfig;
  readonly dtype: FloatDType;
  readonly tokenCounts: readonly number[];
  /**
   * Calls of a case rotate through copies of the weights that add up to at least this many bytes. If that is more than
   * the caches hold, no call finds its weights in a cache, as in a model with many layers.
   */
  readonly weightBytes: number;
}

/** More than the caches of any machine can hold. */
export const bytesBeyondCaches = 256 * 2 ** 20;

/** The rule of gating in a layer's configuration. */
export function gatingRule({ topK, scoring, normalize }: MoeLayerConfig): GatingRuleOptions {
  return { topK, ...(scoring && { scoring }), ...(normalize && { normalize }) };
}

/**
 * Number of inputs, a power of two. With few tokens a call touches few experts, so more inputs make successive calls
 * touch others; with thousands it touches all of them.
 */
export function inputCount(tokens: number): number {
  return tokens <= 8 ? 16 : tokens < 2048 ? 4 : 2;
}

/** Returns the items in rotation, endlessly. */
export function rotation<T>(items: readonly T[]): () => T {
  let next = 0;
  return () => items[next++ % items.length] as T;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
