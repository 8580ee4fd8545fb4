import { type Device, type Parameter, random, type Tensor } from "moe-kernels";

/** A weight of the model outside its mixtures, and the place of its gradient. */
export class Weight implements Parameter {
  readonly name: string;
  readonly value: Tensor<"f32">;
  readonly gradient: Tensor<"f32">;

  constructor(name: string, value: Tensor<"f32">) {
    this.name = name;
    this.value = value;
    this.gradient = value.device.zeros(value.shape, "f32");
  }

  dispose(): void {
    this.value.dispose();
    this.gradient.dispose();
  }
}

/** Where a new model's weights come from: drawn, or read from a checkpoint. */
export interface WeightSource {
  readonly device: Device;
  /** Weights of a name. Those that are drawn are normal with this deviation; a deviation of 0 makes them all `mean`. */
  take(name: string, shape: readonly number[], deviation: number, mean?: number): Tensor<"f32">;
}

/** Draws the weights, one after another from the sequence of a seed. */
export class DrawnWeights implements WeightSource {
  readonly device: Device;
  readonly seed: number;
  #drawn = 0;

  constructor(device: Device, seed: number) {
    this.device = device;
    this.seed = seed;
  }

  take(_name: string, shape: readonly number[], deviation: number, mean = 0): Tensor<"f32"> {
    using normals = random(this.device, shape, { seed: this.seed, distribution: "normal", offset: this.#drawn });
    this.#drawn += normals.size;
    return this.device.tensor(
      normals.dataSync().map((value) => mean + deviation * value),
      shape,
    );
  }
}

/** Takes weights from a checkpoint. */
export class SavedWeights implements WeightSource {
  readonly device: Device;
  readonly saved: ReadonlyMap<string, Float32Array>;

  constructor(device: Device, saved: ReadonlyMap<string, Float32Array>) {
    this.device = device;
    this.saved = saved;
  }

  take(name: string, shape: readonly number[]): Tensor<"f32"> {
    const values = this.saved.get(name);
    if (values === undefined) throw new RangeError(`checkpoint: expected weights ${name}, got none of that name`);
    return this.device.tensor(values, shape);
  }
}
