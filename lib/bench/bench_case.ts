import type { TokenFormat } from "../core/formats/token_format.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import type { OperatorName } from "../core/operators/table.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { type GatingRuleOptions, gatingFields } from "../operators/routing/gating_options.js";
import type { SubjectInputs } from "../testing/subject/subject.js";
import type { BenchDType } from "./operators/draw.js";

/** What is timed: an operator, or the forward of a whole layer. */
export type BenchedOperator = OperatorName | "layer";

/** One computation to time. */
export interface BenchCase {
  /** `layer`, or one of the cases of operators. */
  readonly name: string;
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
  /** What the call on the first inputs writes, by the names of the outputs. */
  firstOutputs(): Promise<Readonly<Record<string, ArrayLike<number>>>>;
  /** What contenders call it, if they can have it. */
  readonly operator: BenchedOperator;
  /** Why contenders cannot be asked for it; null if they can. */
  readonly incomparable: string | null;
  /**
   * The same calls for contenders.
   * @param anew draws the weights again too, which otherwise are the same objects for all numbers of tokens.
   */
  contenderCalls(anew?: boolean): readonly SubjectInputs[];
}

/** Why products have no contenders: a subject is not told how to round tokens; else null. */
export function whyIncomparable({ tokenFormat }: Pick<CaseOptions, "tokenFormat">): string | null {
  return tokenFormat === "none" ? null : `it has no way to be told to round tokens to ${tokenFormat}`;
}

/** What to make cases for. */
export interface CaseOptions {
  readonly config: MoeLayerConfig;
  /** The dtype of tokens. */
  readonly dtype: BenchDType;
  /** The format of the experts' weights. */
  readonly format: WeightFormatName;
  readonly tokenFormat: TokenFormat;
  readonly tokenCounts: readonly number[];
  /**
   * Calls of a case rotate through copies of the weights that add up to at least this many bytes. If that is more than
   * the caches hold, no call finds its weights in a cache, as in a model with many layers.
   */
  readonly weightBytes: number;
}

/** The rule of gating in a layer's configuration. */
export function gatingRuleOf(config: MoeLayerConfig): GatingRuleOptions {
  const given = Object.entries(config).filter(([name, value]) => name in gatingFields && value !== undefined);
  return { topK: config.topK, ...Object.fromEntries(given) };
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
