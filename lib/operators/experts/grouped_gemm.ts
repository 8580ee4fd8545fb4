import { inspect } from "node:util";
import {
  type Activation,
  activations,
  type Clamp,
  defaultClamp,
  isGated,
  type PackedHandle,
} from "../../core/backend.js";
import type { Device } from "../../core/device.js";
import type { DType, FloatDType } from "../../core/dtype.js";
import { cannotCombine, invalidArgument, MoeError } from "../../core/errors.js";
import { boolean, choice, type Fields, finite, object, optional, positive, type Read } from "../../core/options.js";
import { checkOwnClass } from "../../core/own_class.js";
import { type Shape, shapeText } from "../../core/shape.js";
import { Tensor } from "../../core/tensor.js";
import { tensor } from "../../core/tensor_option.js";
import { type TokenFormat, tokenFormats } from "../../core/token_format.js";
import { freeWeight, plainWeight, type WeightFormatName, type WeightMatrix } from "../../core/weight_format.js";
import { isPlain, weightFormat } from "../../core/weight_formats.js";
import { checkOptional, checkPair, checkTensor, output } from "../check.js";
import {
  checkQuantized,
  disposeQuantized,
  isQuantized,
  type QuantizedWeight,
  quantizedMatrix,
  quantizedWeight,
  stackedQuantized,
} from "./quantized_weight.js";

/**
 * Expert weights in the layout that the device's grouped GEMM reads fastest. Made by {@link packExperts}; `dispose()`
 * frees them.
 */
export class PackedExperts implements Disposable {
  readonly #device: Device;
  readonly #format: WeightFormatName;
  readonly #shape: Shape;
  readonly #activation: Activation;
  readonly #tokenFormat: TokenFormat;
  readonly #transposed: boolean;
  #handle: PackedHandle | undefined;

  /** @internal Use {@link packExperts}. */
  constructor(
    device: Device,
    format: WeightFormatName,
    shape: Shape,
    activation: Activation,
    tokenFormat: TokenFormat,
    transposed: boolean,
    handle: PackedHandle,
  ) {
    checkOwnClass(new.target, PackedExperts);
    this.#device = device;
    this.#format = format;
    this.#shape = Object.freeze([...shape]);
    this.#activation = activation;
    this.#tokenFormat = tokenFormat;
    this.#transposed = transposed;
    this.#handle = handle;
    Object.freeze(this);
  }

  /** True only for objects that {@link packExperts} made. */
  static [Symbol.hasInstance](value: unknown): value is PackedExperts {
    return typeof value === "object" && value !== null && #handle in value;
  }

  /** Where the weights are. */
  get device(): Device {
    return this.#device;
  }

  /** The dtype of its elements; u8, that of the codes, if they are quantised. */
  get dtype(): DType {
    return isPlain(weightFormat(this.#format)) ? (this.#format as DType) : "u8";
  }

  /** The format of its elements: a dtype, or the name of a quantised format. */
  get format(): WeightFormatName {
    return this.#format;
  }

  /**
   * [E, N, K] as given, or [E, K, N] if it was transposed; N = 2I rows (gate, then up) if the activation is gated. A
   * frozen array.
   */
  get shape(): Shape {
    return this.#shape;
  }

  /** What {@link groupedGemm} applies to the outputs. */
  get activation(): Activation {
    return this.#activation;
  }

  /** What {@link groupedGemm} rounds its rows to. */
  get tokenFormat(): TokenFormat {
    return this.#tokenFormat;
  }

  /** Whether they are the given matrices transposed. */
  get transposed(): boolean {
    return this.#transposed;
  }

  /** Bytes on the device. */
  get byteLength(): number {
    return this.handle.byteLength;
  }

  /** @internal */
  get handle(): PackedHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "packed experts: used after dispose()");
    void this.device.backend;
    return this.#handle;
  }

  /** Frees the weights once no enqueued work needs them. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const state = this.#handle === undefined || this.device.disposed ? " (disposed)" : "";
    const tokens = this.tokenFormat === "none" ? "" : ` and ${this.tokenFormat} tokens`;
    return `PackedExperts<${this.format}> ${shapeText(this.shape)} for ${this.activation}${tokens} on ${this.device.name}${state}`;
  }
}

/** What is applied to the outputs of a product. */
export interface ActivationOptions {
  /** Default none. */
  activation?: Activation;
  /**
   * Parameters of `swiglu_clamped`: g σ(alpha g) (u + offset) with g = min(gate, limit), u = clamp(up, ±limit).
   * Defaults are those of gpt-oss.
   */
  clamp?: Partial<Clamp>;
}

const clampFields = {
  alpha: optional(finite, defaultClamp.alpha),
  limit: optional(positive, defaultClamp.limit),
  offset: optional(finite, defaultClamp.offset),
} satisfies Fields<Clamp>;

export const clampOption = optional(object(clampFields, "{ limit: 7 }"), defaultClamp);

export const activationFields = {
  activation: optional(choice(activations)),
  clamp: clampOption,
} satisfies Fields<ActivationOptions>;

/** Options of {@link packExperts}. */
export interface PackOptions extends ActivationOptions {
  /** Round rows to 8 bits, for quantised weights; see {@link TokenFormat}. Default none. */
  tokenFormat?: TokenFormat;
  /**
   * Pack the transposes, [E, K, N]: then the product y = Wᵀ x, with rows of N and results of K columns, is what
   * {@link groupedGemm} computes, which is the gradient of the other by its rows. Only float weights, without an
   * activation; weights that were packed for a gated one, gate and up, are one matrix here. Default false.
   */
  transpose?: boolean;
}

const packFields = {
  ...activationFields,
  tokenFormat: optional(choice(tokenFormats)),
  transpose: optional(boolean),
} satisfies Fields<PackOptions>;
const packOptions = object(packFields, '{ activation: "swiglu" }');

/**
 * Repacks expert weights for repeated use by {@link groupedGemm}. `weight` can be disposed of right after.
 *
 * @param weight [E, N, K] f32, f16 or bf16, or quantised; rows are outputs (y = W x). If the activation is gated,
 * N = 2I: I gate rows, then I up rows. Quantised weights keep their format. With `transpose`, columns are outputs
 * (y = Wᵀ x).
 * @throws SHAPE_MISMATCH (also for an odd N with a gated activation), INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DISPOSED,
 * UNSUPPORTED_OPERATION (quantised, if I rows end within a group of rows), OUT_OF_MEMORY.
 */
export function packExperts(weight: Tensor<FloatDType> | QuantizedWeight, options: PackOptions = {}): PackedExperts {
  const read = packOptions(options, "options");
  return pack(readStack(weight, read.transpose), read);
}

/** The matrices of all experts, checked. */
interface ExpertStack {
  readonly device: Device;
  readonly format: WeightFormatName;
  /** [E, N, K] */
  readonly shape: readonly [number, number, number];
  /** Some rows of one expert's matrix. Free its handles after use. */
  rows(expert: number, first: number, count: number): WeightMatrix;
}

/** @param width K, if the weight does not say it. */
function readStack(weight: unknown, transpose: boolean | undefined, width?: number): ExpertStack {
  if (!isQuantized(weight)) {
    return floatStack(checkTensor("weight", weight, "float", ["E", "N", "K"]) as Tensor<FloatDType>, transpose);
  }
  if (transpose) throw cannotCombine("transpose", "quantised weights");
  const read = quantizedWeight(weight, "weight");
  const { shape: codes, device } = checkTensor("weight.codes", read.codes, ["u8"], ["E", "N", "bytes"]);
  const [experts, rows, bytes] = codes as [number, number, number];
  const columns = read.columns ?? width ?? Math.floor((bytes * 8) / weightFormat(read.format).bits);
  if (read.part !== undefined) throw cannotCombine("weight.part", "packExperts");
  checkQuantized("weight", read, [rows, columns], device, experts);
  return {
    device,
    format: read.format,
    shape: [experts, rows, columns],
    rows: (expert, firstRow, count) => {
      const one = stackedQuantized(read, expert);
      try {
        return quantizedMatrix("weight", one, [rows, columns], { firstRow, rows: count, firstColumn: 0, columns });
      } finally {
        disposeQuantized(one);
      }
    },
  };
}

function floatStack({ device, dtype, handle, shape }: Tensor<FloatDType>, transpose = false): ExpertStack {
  const [experts, rows, columns] = shape as [number, number, number];
  const [size, step] = [rows * columns, transpose ? 1 : columns];
  const [outputs, inputs] = transpose ? [columns, rows] : [rows, columns];
  return {
    device,
    format: dtype,
    shape: [experts, outputs, inputs],
    rows: (expert, first, count) =>
      plainWeight(dtype, {
        handle: handle.view([size - first * step], expert * size + first * step),
        rows: count,
        columns: inputs,
        rowStride: step,
        columnStride: transpose ? columns : 1,
      }),
  };
}

/** {@link packExperts} with options that have been read. */
function pack(
  stack: ExpertStack,
  { activation = "none", clamp, tokenFormat = "none", transpose = false }: Read<typeof packOptions>,
): PackedExperts {
  if (transpose && activation !== "none") throw cannotCombine("transpose", `activation ${activation}`);
  const { device, format, shape } = stack;
  const [experts, rows, columns] = shape;
  const gated = isGated(activation);
  if (gated && rows % 2 !== 0) {
    throw new MoeError("SHAPE_MISMATCH", `weight: expected an even number of rows for ${activation}, got ${rows}`);
  }
  // E of an empty weight may be any number.
  if (experts >= 2 ** 31 - 1) throw invalidArgument("weight", "fewer than 2^31 - 1 experts", experts);
  if (tokenFormat !== "none" && isPlain(weightFormat(format))) {
    throw invalidArgument("tokenFormat", `"none" with weights that are not quantised (${format})`, tokenFormat);
  }
  const handle = device.backend.packedExperts(experts, rows, columns, format, activation, clamp, tokenFormat);
  const half = gated ? rows / 2 : rows;
  for (let expert = 0; expert < experts && rows * columns > 0; expert++) {
    const first = stack.rows(expert, 0, half);
    const up = gated ? stack.rows(expert, half, half) : null;
    handle.setExpert(expert, first, up);
    freeWeight(first);
    if (up !== null) freeWeight(up);
  }
  return new PackedExperts(device, format, shape, activation, tokenFormat, transpose, handle);
}

export interface GroupedGemmOptions extends PackOptions {
  /** [R] i32: row r multiplies x[tokenOfRow[r]] instead of x[r], or zeros if that is -1. */
  tokenOfRow?: Tensor<"i32">;
  /** [E, N] f32, f16 or bf16, added before the activation. */
  bias?: Tensor<FloatDType>;
  /** Where to write, [R, N] ([R, N/2] if gated) of any float dtype; default a new tensor of x's dtype. */
  out?: Tensor<FloatDType>;
}

const groupedGemmFields = {
  ...packFields,
  tokenOfRow: optional(tensor<"i32">()),
  bias: optional(tensor<FloatDType>()),
  out: optional(tensor<FloatDType>()),
} satisfies Fields<GroupedGemmOptions>;
const groupedGemmOptions = object(groupedGemmFields, "{ tokenOfRow, bias }");

/**
 * One matrix product per expert over its rows: y[r] = activation(x[r] · weight[e]ᵀ + bias[e]) for the rows
 * offsets[e] .. offsets[e+1] of expert e. Products accumulate in float32, in an order that depends only on K. Rows from
 * offsets[E] on are zeros.
 *
 * @param x [R, K], or [T, K] with `tokenOfRow`; f32, f16 or bf16.
 * @param weight [E, N, K], float or quantised, or the same packed by {@link packExperts}. Weights that are not packed are
 * packed on every call, so pack those that are used more than once.
 * @param offsets [E+1] i32, not descending, offsets[E] <= R; otherwise ID_OUT_OF_RANGE at the next wait.
 * @returns y [R, N], or [R, N/2] if gated, in the dtype of `out` if given, else of x.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT.
 */
export function groupedGemm<O extends FloatDType>(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options: GroupedGemmOptions & { out: Tensor<O> },
): Tensor<O>;
export function groupedGemm<D extends FloatDType, O extends FloatDType = D>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options?: GroupedGemmOptions & { out?: Tensor<O> },
): Tensor<D | O>;
export function groupedGemm(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options: GroupedGemmOptions = {},
): Tensor<FloatDType> {
  checkTensor("x", x, "float", ["R", "K"]);
  const read = groupedGemmOptions(options, "options");
  if (weight instanceof PackedExperts) return multiply(x, weight, offsets, read);
  const stack = weightOf(weight, x, read.transpose);
  using packed = pack(stack, read);
  return multiply(x, packed, offsets, read);
}

/** The weight of {@link groupedGemm} if it is not packed. */
function weightOf(
  weight: Tensor<FloatDType> | QuantizedWeight,
  x: Tensor<FloatDType>,
  transpose: boolean | undefined,
): ExpertStack {
  if (weight instanceof Tensor) {
    const columns = x.shape[1] as number;
    checkTensor("weight", weight, "float", transpose ? ["E", columns, "K"] : ["E", "N", columns], x.device);
    checkPair(x, weight);
    return floatStack(weight, transpose);
  }
  if (!isQuantized(weight))
    throw invalidArgument("weight", "a Tensor or packed experts, or a quantised weight", weight);
  return readStack(weight, transpose, x.shape[1]);
}

/** {@link groupedGemm} with packed weights and options that have been read. */
function multiply(
  x: Tensor<FloatDType>,
  weight: PackedExperts,
  offsets: Tensor<"i32">,
  options: Read<typeof groupedGemmOptions>,
): Tensor<FloatDType> {
  const { device } = x;
  if (weight.device !== device) {
    throw new MoeError("DEVICE_MISMATCH", "weight: expected packed experts on x's device, got another device's");
  }
  checkPair(x, weight);
  const [experts, rows, columns] = weight.shape as [number, number, number];
  if (x.shape[1] !== columns) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `x: expected shape [R, ${columns}] for these weights, got [${x.shape.join(", ")}]`,
    );
  }
  const { activation } = weight;
  if (options.activation !== undefined && options.activation !== activation) {
    throw invalidArgument("activation", `"${activation}", which the weights were packed for`, options.activation);
  }
  const { tokenFormat } = weight;
  if (options.tokenFormat !== undefined && options.tokenFormat !== tokenFormat) {
    throw invalidArgument("tokenFormat", `"${tokenFormat}", which the weights were packed for`, options.tokenFormat);
  }
  if (options.transpose !== undefined && options.transpose !== weight.transposed) {
    throw invalidArgument("transpose", `${weight.transposed}, as the weights were packed`, options.transpose);
  }
  checkTensor("offsets", offsets, ["i32"], [experts + 1], device);
  const tokenOfRow = checkOptional("tokenOfRow", options.tokenOfRow, ["i32"], ["R"], device);
  const bias = checkOptional("bias", options.bias, "float", [experts, rows], device);
  const shape = [(tokenOfRow ?? x).shape[0] as number, isGated(activation) ? rows / 2 : rows];
  const dtype = options.out?.dtype ?? x.dtype;
  const inputs = [x, offsets, tokenOfRow, bias];
  const y = output("out", options.out, device, shape, dtype, inputs);
  checkTensor("out", y, "float", shape, device);
  device.backend.groupedGemm({
    x: x.handle,
    weight: weight.handle,
    bias: bias?.handle,
    offsets: offsets.handle,
    tokenOfRow: tokenOfRow?.handle,
    y: y.handle,
  });
  return y;
}
