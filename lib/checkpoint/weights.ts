import { Device } from "../device.js";
import { dtypeNames, dtypes, type FloatDType } from "../dtype.js";
import { checkChoice, invalidArgument } from "../errors.js";
import { describeLayer, type MoeLayerConfig } from "../layer/config.js";
import type { ExpertWeights } from "../layer/expert_weights.js";
import { MoeLayer } from "../layer/layer.js";
import { type Shape, sameShape, shapeText } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { badCheckpoint, checkedAt } from "./bad_checkpoint.js";
import type { SafetensorsDType } from "./safetensors_dtype.js";
import type { SafetensorsFile } from "./safetensors_file.js";
import { tensorPlace } from "./safetensors_header.js";

/**
 * The names of one layer's tensors; `{e}` in them stands for the expert's number. All are stored with their outputs as
 * rows (y = W x).
 */
export interface LayerTensors {
  /** [E, H] */
  readonly router: string;
  /** [I, H]; only where the activation is gated. */
  readonly gate?: string;
  /** [I, H] */
  readonly up: string;
  /** [H, I] */
  readonly down: string;
}

/** Where a layer comes from: its formula, the names of its tensors and the files that have them. */
export interface LayerSource {
  /** The file that `config` was read from, for errors. */
  readonly configPath: string;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  /** The file that has the tensor, open; BAD_CHECKPOINT where none has. */
  fileOf(name: string): Promise<SafetensorsFile>;
}

export interface WeightOptions {
  /** Storage dtype of the weights on the device; default the checkpoint's. */
  dtype?: FloatDType;
  /** Called as bytes of weights are read. */
  onProgress?: (progress: { bytesRead: number; bytesTotal: number }) => void;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

const floatDTypes = dtypeNames.filter((name) => dtypes[name].float);

const storedDTypes: ReadonlyMap<SafetensorsDType, FloatDType> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
]);

/** A tensor that was found, and is as the layer needs it. */
interface Located {
  readonly name: string;
  readonly file: SafetensorsFile;
  readonly shape: Shape;
  readonly dtype: FloatDType;
  readonly byteLength: number;
}

const expertRoles = ["gate", "up", "down"] as const;

/** One expert's tensors by their roles. */
type LocatedExpert = ReadonlyMap<(typeof expertRoles)[number], Located>;

/**
 * Builds a layer on `device`, expert by expert: a file's bytes are read into device tensors, which are repacked and
 * freed before the next expert's are read. All tensors are looked up first, so that a bad checkpoint fails before the
 * layer's memory is allocated.
 * @throws BAD_CHECKPOINT for a missing tensor, another shape than the configuration says, or another dtype than F32,
 * F16 or BF16; the errors of MoeLayer.create.
 */
export async function loadWeights(source: LayerSource, device: Device, options: WeightOptions): Promise<MoeLayer> {
  const { config, tensors } = source;
  checkTarget(device, options.dtype);
  const router = await locate(source, tensors.router, [config.numExperts, config.hiddenSize]);
  const description = checkedAt(source.configPath, () => describeLayer(config, options.dtype ?? router.dtype));
  const experts: LocatedExpert[] = [];
  for (let expert = 0; expert < config.numExperts; expert++) experts.push(await locateExpert(source, expert));

  const located = [router, ...experts.flatMap((expert) => [...expert.values()])];
  const reader = new WeightReader(device, located, options);
  const layer = new MoeLayer(device, description);
  try {
    await setRouter(layer, router, reader);
    for (const [index, expert] of experts.entries()) await setExpert(layer, index, expert, reader);
    return layer;
  } catch (error) {
    layer.dispose();
    throw error;
  }
}

/** Throws INVALID_ARGUMENT unless weights can be stored on `device` as `dtype`. */
export function checkTarget(device: unknown, dtype: unknown): void {
  if (!(device instanceof Device)) throw invalidArgument("device", "a Device", device);
  if (dtype !== undefined) checkChoice("dtype", dtype, floatDTypes);
}

async function locateExpert(source: LayerSource, expert: number): Promise<LocatedExpert> {
  const { hiddenSize, intermediateSize } = source.config;
  const located = new Map<(typeof expertRoles)[number], Located>();
  for (const role of expertRoles) {
    const name = source.tensors[role]?.replace("{e}", String(expert));
    if (name === undefined) continue;
    const shape = role === "down" ? [hiddenSize, intermediateSize] : [intermediateSize, hiddenSize];
    located.set(role, await locate(source, name, shape));
  }
  return located;
}

async function locate(source: LayerSource, name: string, shape: Shape): Promise<Located> {
  const file = await source.fileOf(name);
  const info = file.info(name);
  const dtype = storedDTypes.get(info.dtype);
  if (dtype === undefined) {
    throw badCheckpoint(tensorPlace(file.path, name), `expected dtype F32, F16 or BF16, got ${info.dtype}`);
  }
  if (!sameShape(info.shape, shape)) {
    throw badCheckpoint(
      tensorPlace(file.path, name),
      `expected shape ${shapeText(shape)} by the sizes in ${source.configPath}, got ${shapeText(info.shape)}`,
    );
  }
  return { name, file, shape, dtype, byteLength: info.byteLength };
}

async function setRouter(layer: MoeLayer, router: Located, reader: WeightReader): Promise<void> {
  using weight = await reader.read(router);
  layer.setRouter(weight);
}

async function setExpert(layer: MoeLayer, index: number, expert: LocatedExpert, reader: WeightReader): Promise<void> {
  const weights = new Map<string, Tensor<FloatDType>>();
  try {
    for (const [role, located] of expert) weights.set(role, await reader.read(located));
    layer.setExpert(index, Object.fromEntries(weights) as unknown as ExpertWeights);
  } finally {
    for (const tensor of weights.values()) tensor.dispose();
  }
  // Without this wait the files' bytes of all experts would be alive at once.
  await layer.device.synchronize();
}

/** Reads tensors from files into device memory and counts the bytes. */
class WeightReader {
  readonly #device: Device;
  readonly #options: WeightOptions;
  readonly #bytesTotal: number;
  #bytesRead = 0;

  constructor(device: Device, all: readonly Located[], options: WeightOptions) {
    this.#device = device;
    this.#options = options;
    this.#bytesTotal = all.reduce((total, { byteLength }) => total + byteLength, 0);
  }

  async read({ name, file, shape, dtype, byteLength }: Located): Promise<Tensor<FloatDType>> {
    const { signal } = this.#options;
    const tensor = this.#device.empty(shape, dtype);
    try {
      const mapped = tensor.handle.map();
      const bytes = mapped ?? new Uint8Array(byteLength);
      await file.readInto(name, bytes, { signal, onProgress: (bytesDone) => this.#report(bytesDone) });
      if (mapped === undefined) tensor.handle.write(bytes, false);
      this.#bytesRead += byteLength;
      return tensor;
    } catch (error) {
      tensor.dispose();
      throw error;
    }
  }

  #report(bytesDone: number): void {
    this.#options.onProgress?.({ bytesRead: this.#bytesRead + bytesDone, bytesTotal: this.#bytesTotal });
  }
}
