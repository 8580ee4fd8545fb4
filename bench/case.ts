import type { FloatDType } from "#lib/core/dtype.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import type { GatingRuleOptions } from "#lib/operators/routing/gating_options.js";

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

/** What cases are made for. */
export interface CaseOptions {
  readonly config: MoeLayerConfig;
  readonly dtype: FloatDType;
  readonly tokenCounts: readonly number[];
  /**
   * Weights of one case are held in as many copies as make up this many bytes, and calls take turns. Beyond the caches'
   * size none finds its weights in one, as in a model of many layers.
   */
  readonly weightBytes: number;
}

/** More than the caches of any machine hold. */
export const bytesBeyondCaches = 256 * 2 ** 20;

/** The rule of gating in a layer's configuration. */
export function gatingRule({ topK, scoring, normalize }: MoeLayerConfig): GatingRuleOptions {
  return { topK, ...(scoring && { scoring }), ...(normalize && { normalize }) };
}

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
