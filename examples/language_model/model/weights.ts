import { type Device, decodeHalves, type FloatDType, type PackedExperts, packExperts, type Tensor } from "moe-kernels";
import { type SafetensorsFile, ShardedCheckpoint } from "moe-kernels/safetensors";

const dtypes = { F32: "f32", F16: "f16", BF16: "bf16" } as const satisfies Record<string, FloatDType>;

/** The weights of a model outside its experts, from the files of its directory. */
export class Weights implements AsyncDisposable {
  readonly device: Device;
  readonly #checkpoint: ShardedCheckpoint;

  private constructor(device: Device, checkpoint: ShardedCheckpoint) {
    this.device = device;
    this.#checkpoint = checkpoint;
  }

  static async open(directory: string, device: Device): Promise<Weights> {
    return new Weights(device, await ShardedCheckpoint.open(directory));
  }

  has(name: string): boolean {
    return this.#checkpoint.has(name);
  }

  /** A tensor of this shape, as it is stored. */
  async tensor(name: string, shape: readonly number[]): Promise<Tensor<FloatDType>> {
    const { file, dtype } = await this.#find(name, shape);
    const { data } = await file.read(name);
    return this.device.tensor(data as Float32Array | Uint16Array, shape, dtype);
  }

  /** The same if there is one. */
  async optional(name: string, shape: readonly number[]): Promise<Tensor<FloatDType> | undefined> {
    return this.has(name) ? this.tensor(name, shape) : undefined;
  }

  /** A matrix [N, K] for `linear`. */
  async packed(name: string, rows: number, columns: number): Promise<PackedExperts> {
    using matrix = await this.tensor(name, [rows, columns]);
    using stacked = matrix.reshape([1, rows, columns]);
    return packExperts(stacked);
  }

  /** A row of a matrix, from the file. */
  async row(name: string, [rows, columns]: readonly [number, number], row: number): Promise<Float32Array> {
    const { file, dtype } = await this.#find(name, [rows, columns]);
    const bits = dtype === "f32" ? new Float32Array(columns) : new Uint16Array(columns);
    await file.readRange(name, row * bits.byteLength, new Uint8Array(bits.buffer));
    return bits instanceof Float32Array ? bits : decodeHalves(bits, dtype as "f16" | "bf16");
  }

  async #find(name: string, shape: readonly number[]): Promise<{ file: SafetensorsFile; dtype: FloatDType }> {
    const file = await this.#checkpoint.fileOf(name);
    const info = file.info(name);
    const dtype = dtypes[info.dtype as keyof typeof dtypes];
    if (dtype !== undefined && info.shape.join() === shape.join()) return { file, dtype };
    const got = `${info.dtype} [${info.shape.join(", ")}]`;
    throw new RangeError(`${file.path}: ${name}: expected F32, F16 or BF16 [${shape.join(", ")}], got ${got}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#checkpoint.close();
  }
}
