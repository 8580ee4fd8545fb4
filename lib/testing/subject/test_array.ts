import type { Shape } from "../../core/tensors/shape.js";

/** A tensor that a subject gets, row-major. */
export interface TestArray {
  /** The stored bits: 16-bit floats are a Uint16Array, which `toFloat32` converts. */
  readonly data: Float32Array | Uint16Array | Int32Array | Uint8Array;
  /** The sizes, row-major. */
  readonly shape: Shape;
  /** The type of the elements. */
  readonly dtype: "f32" | "f16" | "bf16" | "i32" | "u8";
}

/** A tensor that a subject returns. */
export interface OutputArray {
  /** The sizes to return, row-major. */
  readonly shape: Shape;
  /** The dtype to return. */
  readonly dtype: string;
}

/** An output: values, or for 16-bit floats their bits as a Uint16Array. */
export type SubjectOutput = ArrayLike<number>;
