import type { LayerDescription } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { Gating } from "../../core/layer/routing_rule.js";
import type { OperatorName } from "../../core/operators/table.js";
import type { GatingRuleOptions } from "../../operators/routing/gating_options.js";
import type { OutputArray, TestArray } from "../../testing/subject/subject.js";
import type { BenchDType, Draw } from "./draw.js";

/** The sizes of one call: a layer's, and T. */
export interface Sizes {
  /** T */
  readonly tokens: number;
  /** T * k */
  readonly rows: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** The dtype of tokens, and of weights that are not quantised. */
  readonly dtype: BenchDType;
  /** The format of the experts' weights. */
  readonly format: WeightFormatName;
  readonly description: LayerDescription;
  /** How the layer chooses experts, as users write it and as devices take it. */
  readonly rule: GatingRuleOptions;
  readonly gating: Gating;
}

/** Tensors of one call by the names of the operator's fields. */
// biome-ignore lint/suspicious/noExplicitAny: fields differ between operators; a case knows those of its own.
export type CallTensors = { readonly [field: string]: any };

/** Expert weights that a product multiplies by; they are packed, and more than one copy may exist. */
export interface CaseWeights {
  /** N, twice the outputs if gated. */
  readonly rows: number;
  /** K */
  readonly columns: number;
  /** Whether the layer's activation is applied, else none. */
  readonly activates: boolean;
}

/** An operator at the sizes of a layer: what it gets, what it writes, and the call that is timed. */
export interface OperatorCase {
  readonly operator: OperatorName;
  /** The name of its function, or of a step as subjects have it, with more if there are several cases of it. */
  readonly name: string;
  /** What a call gets, but for `weights`: tensors, and what else devices take, by the names of the operator's fields. */
  inputs(draw: Draw, sizes: Sizes): { readonly [field: string]: TestArray | unknown };
  /** What it writes. An output that is also an input is updated in place. */
  outputs(sizes: Sizes): Readonly<Record<string, OutputArray>>;
  weights?(sizes: Sizes): CaseWeights;
  /** A matrix in a quantised format, which the call gets as `weight`. */
  quantized?(sizes: Sizes): { readonly format: WeightFormatName; readonly matrix: readonly [number, number] };
  /** Floating-point operations of one call; a multiply-add is two. Default 0. */
  operations?(sizes: Sizes): number;
  /** What enqueues one call, as users do. */
  call(sizes: Sizes): Call;
}

/** Enqueues one call. `out` has tensors for the outputs. */
export type Call = (tensors: CallTensors, out: CallTensors, device: Device) => void;

/** An output of float32 values. */
export const f32 = (...shape: number[]): OutputArray => ({ shape, dtype: "f32" });
/** An output of indices. */
export const i32 = (...shape: number[]): OutputArray => ({ shape, dtype: "i32" });
