import type { Device } from "../../core/device/device.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../layer/create.js";
import type { ForwardOptions } from "../../layer/forward/forward_options.js";
import { MoeLayer } from "../../moe_layer.js";
import { type PackedExperts, type PackOptions, packExperts } from "../../operators/experts/packed_experts.js";
import { type QuantizedWeight, tensorsOf } from "../../operators/experts/quantized_weight.js";
import { round } from "../rounding.js";
import type { Draws } from "./draws.js";
import { Random } from "./random.js";

/** What a layer is created from. */
export type GivenLayer = Omit<MoeLayerOptions, "device">;

/** What cases ask of a forward. */
export type GivenForward = Omit<ForwardOptions, "save" | "want">;

/** One forward of a layer. */
export interface LayerCall {
  readonly layer: MoeLayer;
  readonly given: GivenLayer;
  readonly x: Tensor<FloatDType>;
  readonly options: GivenForward;
  readonly y: Tensor<FloatDType>;
}

/**
 * The inputs of one run of a case on one device. With `expects`, the run computes the expected results: its inputs are
 * the other run's values after rounding to their dtype, but stored in float64, so that everything computed from them is
 * float64 too.
 */
export class Inputs implements Disposable {
  readonly device: Device;
  /** Draws the same numbers in every run of the case. */
  readonly random: Random;
  readonly #draws: Draws;
  #drawn = 0;
  readonly #expects: boolean;
  readonly #kept: Disposable[] = [];
  readonly #given = new Map<MoeLayer, GivenLayer>();
  /** The forwards of {@link forward}, in order. */
  readonly forwards: LayerCall[] = [];
  /** Weights by the handles of what {@link pack} made of them. */
  readonly packed = new Map<unknown, Tensor<FloatDType> | QuantizedWeight>();

  constructor(device: Device, draws: Draws, expects: boolean) {
    this.device = device;
    this.random = new Random(draws.seed);
    this.#draws = draws;
    this.#expects = expects;
  }

  /** The dtype that takes the place of `dtype` in this run. */
  dtype(dtype: FloatDType): FloatDType {
    return this.#expects ? "f64" : dtype;
  }

  /** What `draw` makes of random numbers: once for all runs of the case, so nobody may change it. */
  drawn<T>(draw: (random: Random) => T): T {
    return this.#draws.value(this.#drawn++, this.random, draw);
  }

  floats(values: Float32Array, shape: Shape, dtype: FloatDType): Tensor<FloatDType> {
    const source = this.#expects ? round(values, dtype) : values;
    return this.keep(this.device.tensor(source, shape, this.dtype(dtype)));
  }

  /** Normal values of mean 0. */
  normals(shape: Shape, dtype: FloatDType, deviation = 1): Tensor<FloatDType> {
    const values = this.drawn((random) => random.normals(shapeSize(shape), deviation));
    return this.floats(values, shape, dtype);
  }

  /** Normal values, but NaN in the rows (entries along the first dimension) that are not read: no result may depend on them. */
  readNormals(shape: Shape, dtype: FloatDType, isRead: (row: number) => boolean): Tensor<FloatDType> {
    const [rows = 1, ...rest] = shape;
    const width = shapeSize(rest);
    const values = this.drawn((random) => random.normals(rows * width));
    const given = values.map((value, index) => (isRead(Math.floor(index / width)) ? value : Number.NaN));
    return this.floats(given, shape, dtype);
  }

  /** Normal values for an operator that takes f32 alone. */
  f32Normals(shape: Shape, deviation = 1): Tensor<"f32"> {
    return this.normals(shape, "f32", deviation) as Tensor<"f32">;
  }

  integers(values: ArrayLike<number>, shape: Shape): Tensor<"i32"> {
    return this.keep(this.device.tensor(Int32Array.from(values), shape));
  }

  /** A mask under which most tokens count. */
  tokenMask(tokens: number): Tensor<"u8"> {
    return this.keep(this.device.tensor(this.maskValues(tokens)));
  }

  /** The values of a {@link tokenMask}. */
  maskValues(tokens: number): Uint8Array {
    return Uint8Array.from({ length: tokens }, () => this.random.integer(0, 3));
  }

  empty(shape: Shape, dtype: FloatDType): Tensor<FloatDType> {
    return this.keep(this.device.empty(shape, this.dtype(dtype)));
  }

  f32Empty(shape: Shape): Tensor<"f32"> {
    return this.empty(shape, "f32") as Tensor<"f32">;
  }

  /** Packs experts, and remembers what they were. */
  pack(weight: Tensor<FloatDType> | QuantizedWeight, options: PackOptions): PackedExperts {
    const packed = this.keep(packExperts(weight, options));
    this.packed.set(packed.handle, weight);
    return packed;
  }

  /** Creates a layer, and remembers from what. */
  layer(given: GivenLayer): MoeLayer {
    const layer = this.keep(MoeLayer.create({ ...given, device: this.device }));
    this.#given.set(layer, given);
    return layer;
  }

  /** Runs a {@link layer}, and remembers on what. */
  forward(layer: MoeLayer, x: Tensor<FloatDType>, options: GivenForward = {}): Tensor<FloatDType> {
    const y = layer.forward(x, options);
    this.forwards.push({ layer, given: this.#given.get(layer) as GivenLayer, x, options, y });
    return y;
  }

  /** As {@link keep}, for the tensors of a quantised weight. */
  keepTensors<T extends QuantizedWeight>(weight: T): T {
    for (const tensor of tensorsOf(weight)) this.keep(tensor);
    return weight;
  }

  /** Returns `resource`, to be disposed of with the inputs. */
  keep<T extends Disposable>(resource: T): T {
    this.#kept.push(resource);
    return resource;
  }

  [Symbol.dispose](): void {
    for (const resource of this.#kept) resource[Symbol.dispose]();
  }
}
