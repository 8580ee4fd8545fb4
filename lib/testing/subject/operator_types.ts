import type { Activation, Clamp } from "../../core/layer/activation.js";
import type { Field, Fields, ValueOf } from "../../core/operators/field.js";
import type { OperatorTable } from "../../core/operators/table.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../layer/create.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import type { LayerWeights } from "../../layer/weights/layer_weights.js";
import type { QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import type { TestedOperatorName } from "./operator_names.js";
import type { OutputArray, SubjectOutput, TestArray } from "./test_array.js";

// What the operators of a subject get and return follows from their declarations in lib/core/operators.

/** A quantised weight that a subject gets: a {@link QuantizedWeight} with arrays for its tensors. */
export type TestWeight = {
  readonly [Name in keyof QuantizedWeight]: QuantizedWeight[Name] extends infer Value
    ? Value extends Tensor
      ? TestArray
      : Value
    : never;
};

/** What `layer` gets, the forward of a whole layer. */
export interface LayerInputs {
  /** The tokens [T, H] or [B, S, H]. */
  readonly x: TestArray;
  /** As `MoeLayer.create` takes them; those of all experts are stacked. */
  readonly weights: LayerWeights<TestArray, ExpertWeights<TestArray | TestWeight, TestArray>>;
  /** What else `MoeLayer.create` takes for the layer. */
  readonly config: Omit<MoeLayerOptions, "device" | keyof LayerWeights>;
  /** The layer's formula, with all defaults filled in. */
  readonly description: MoeLayerDescription;
  /** What the router reads instead of x. */
  readonly routerInput?: TestArray;
  /** [T] or [B, S] i32: with hash routing, the rows of the table that have the tokens' experts; -1 has none. */
  readonly tokenIds?: TestArray;
  /** [T, k] i32, the experts of the tokens, where these are given and the router only weighs them; -1 is none. */
  readonly expertIds?: TestArray;
  /** What replaces the layer's own routing. */
  readonly routing?: {
    /** [T, k] i32. */
    readonly ids: TestArray;
    /** [T, k] f32. */
    readonly weights: TestArray;
  };
  /** The normal noise of noisy gates. */
  readonly training?: {
    /** [T, E] f32. */
    readonly noise: TestArray;
    /** With a hierarchy: [T, G] f32. */
    readonly groupNoise?: TestArray;
  };
  /** What is added to y. */
  readonly residual?: TestArray;
  /** What to return. */
  readonly outputs: {
    /** Has the shape of x. */
    readonly y: OutputArray;
  };
}

/** Expert weights as they are before they are packed, and what is packed with them. */
interface PackedInputs {
  readonly weight: TestArray | (TestWeight & { readonly shape: Shape });
  readonly activation: Activation;
  readonly clamp: Clamp;
}

interface ArrayHandles {
  readonly tensor: TestArray;
  readonly matrix: never;
  readonly weight: never;
  readonly packedExperts: never;
}

type Flat<T> = { readonly [Name in keyof T]: T[Name] };

type Output = Field<"output" | "updated">;
type OptionalOutput = Field<"optional_output">;
type NoInput = Field<"output" | "optional_output" | "optional_input" | "packed_experts">;

/** An object with a value for every output. */
type Outputs<F extends Fields, Value> = Flat<
  { [Name in keyof F as F[Name] extends Output ? Name : never]: Value } & {
    [Name in keyof F as F[Name] extends OptionalOutput ? Name : never]?: Value;
  }
>;

type Inputs<F extends Fields> = Flat<
  { [Name in keyof F as F[Name] extends NoInput ? never : Name]: ValueOf<F[Name], ArrayHandles> } & {
    [Name in keyof F as F[Name] extends Field<"optional_input"> ? Name : never]?: TestArray;
  } & (Extract<F[keyof F], Field<"packed_experts">> extends never ? unknown : PackedInputs) & {
      readonly outputs: Outputs<F, OutputArray>;
    }
>;

type TestedTable = Pick<OperatorTable, TestedOperatorName>;
type InputsByName = { readonly [Name in keyof TestedTable]: Inputs<TestedTable[Name]> };
type OutputsByName = { readonly [Name in keyof TestedTable]: Outputs<TestedTable[Name], SubjectOutput> };

// There are no such values: only the types of their fields are for users, not those that they are made with.
declare const inputTable: InputsByName & { readonly layer: LayerInputs };
declare const outputTable: OutputsByName & { readonly layer: { readonly y: SubjectOutput } };

/**
 * What each operator of a subject gets: tensors, numbers, names and rules by the names of the operator's fields, and in `outputs`
 * the shapes and dtypes of the tensors to return. Optional tensors that are not used are left out. docs/subjects.md lists them.
 */
export type SubjectInputTable = typeof inputTable;

/** What each operator of a subject returns: a tensor for everything that `outputs` has. docs/subjects.md lists them. */
export type SubjectOutputTable = typeof outputTable;
