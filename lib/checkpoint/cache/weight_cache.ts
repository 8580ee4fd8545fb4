import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { packageVersion } from "../../core/addon/version.js";
import type { OffloadRule, WeightParts } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import { isMoeError } from "../../core/errors.js";
import { makeFolder } from "../../core/files/make_folder.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import { expertsWithWeights } from "../../layer/description/identity_experts.js";
import { cachedLayer } from "../../layer/description/latent_layers.js";
import type { WeightDTypes } from "../../layer/description/storage.js";
import { LayerParts } from "../../layer/layer_parts.js";
import { type Quantizing, quantizing } from "../../layer/weights/quantizing.js";
import type { QuantizeOptions } from "../../operators/formats/quantize.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { difference } from "../difference.js";
import { callFileSystem } from "../file_system_error.js";
import type { LayerSource } from "../locate/locate_layer.js";
import { writeAtomically } from "../safetensors/atomic_file.js";
import { SafetensorsFile } from "../safetensors/file.js";
import { layOut, type SafetensorsInput } from "../safetensors/writer.js";
import type { CacheChoice } from "./cache_option.js";
import { type CachedModel, cachedIn } from "./cached_model.js";

/** What became of the cache of a layer's packed weights. */
export interface CacheStatus {
  /**
   * `mapped`: the weights are the file's, nothing was read or repacked. `copied`: they were read from the file. In all
   * other cases they come from the checkpoint. `written`: the file is there for the next time. `failed`: it could not be
   * written. `unsupported`: the device cannot compute with packed weights from a file (all devices but `cpu`).
   */
  readonly state: "mapped" | "copied" | "written" | "failed" | "unsupported";
  /** The cache file; empty where unsupported, and if its place is not known as the model's files are gone. */
  readonly path: string;
  /** Why the weights are not from the file, and why it could not be written; empty if they are. */
  readonly reason: string;
}

/** The parts of a layer begin at whole cache lines where the first does. */
const dataAlignment = 4096;

/** The part with the checksums of the others. */
const checksumsName = "checksums";

/** Permissions: a layer may be using the file, which must not be written to in place. */
const readOnly = 0o444;

/** What of a layer's options the cache needs. */
interface LayerOptions {
  readonly layer: number;
  readonly device: Device;
  readonly dtype: WeightFormatName | WeightDTypes | undefined;
  readonly quantize: QuantizeOptions | undefined;
  readonly cache: CacheChoice;
  /** What decides the meaning of quantised weights besides their files. */
  readonly quantization: string;
}

/** What {@link openWeightCache} gives: a file, or the reason why there is none. */
type WeightCache = Pick<CacheFile, "load" | "store" | "whyNotUsed">;

/**
 * The cache of one layer for one device, bank and dtype: a safetensors file of the layer's parts, with metadata that
 * tell what they were made from.
 * @param cached what the weights come from. Its BAD_CHECKPOINT does not prevent loading.
 */
export async function openWeightCache(
  cached: () => Promise<CachedModel>,
  { config, tensors }: Pick<LayerSource, "config" | "tensors">,
  description: MoeLayerDescription,
  { layer, device, dtype, quantize, cache, quantization }: LayerOptions,
): Promise<WeightCache> {
  let model: CachedModel;
  try {
    model = await cachedIn(await cached(), cache.folder);
  } catch (error) {
    if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
    return noCache({ state: "failed", path: "", reason: error.message });
  }
  const layout = device.backend.weightLayout(cachedLayer(description));
  if (layout === "") {
    const reason = `device ${device.name} cannot compute with packed weights from a file`;
    return noCache({ state: "unsupported", path: "", reason });
  }
  const { bank, formats, biasDType } = description;
  const origin = {
    package: `moe-kernels ${packageVersion}`,
    layout,
    layer: String(layer),
    dtype: dtypeName(dtype, quantize),
    storage: JSON.stringify({ ...formats, biases: biasDType }),
    bank: `${bank.first}-${bank.first + bank.count - 1}`,
    configuration: JSON.stringify(config),
    tensors: JSON.stringify(tensors),
    quantization,
    checkpoint: JSON.stringify(model.files),
  };
  const experts = bank.count === expertsWithWeights(description) ? [] : [`experts-${origin.bank}`];
  const name = fileName([`layer-${layer}`, ...experts, origin.dtype, layout].join("-"));
  const path = join(model.folder, `${name}.safetensors`);
  return new CacheFile(device, description, path, origin, cache.copy, quantizing(dtype, quantize));
}

/** Every layer comes from the checkpoint, for the reason in the status. */
function noCache(status: CacheStatus): WeightCache {
  return { load: async () => undefined, store: async () => status, whyNotUsed: status.reason };
}

/** Longest name without the extensions that files get: file systems take 255 bytes, those that encrypt names fewer. */
const maximumName = 128;

/** The name, or its beginning and a hash of it: many formats make long ones. */
function fileName(name: string): string {
  if (name.length <= maximumName) return name;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 16);
  return `${name.slice(0, maximumName - hash.length - 1)}-${hash}`;
}

/** A name for the formats that were asked for, and how to get them. */
function dtypeName(dtype: WeightFormatName | WeightDTypes | undefined, { scale }: QuantizeOptions = {}): string {
  const how = scale === undefined || scale === "largest" ? [] : [scale];
  if (typeof dtype !== "object") return [dtype ?? "stored", ...how].join("-");
  const roles = Object.entries(dtype).filter(([, role]) => role !== undefined);
  return ["by-role", ...roles.map(([name, role]) => `${name}-${role}`).sort(), ...how].join("-");
}

class CacheFile {
  readonly #device: Device;
  readonly #description: MoeLayerDescription;
  readonly #path: string;
  /** Whatever decides the bytes of the weights; part of the file's metadata. */
  readonly #origin: Readonly<Record<string, string>>;
  readonly #copies: boolean;
  /** For weights that the file does not have. */
  readonly #quantizing: Quantizing | undefined;
  #whyNotUsed = "";

  constructor(
    device: Device,
    description: MoeLayerDescription,
    path: string,
    origin: Readonly<Record<string, string>>,
    copies: boolean,
    quantizing: Quantizing | undefined,
  ) {
    this.#device = device;
    this.#description = description;
    this.#path = path;
    this.#origin = origin;
    this.#copies = copies;
    this.#quantizing = quantizing;
  }

  /**
   * The layer from the file; undefined if there is none that fits.
   * @param offload which experts are resident, if the file is mapped; by default all are.
   * @throws the errors of `offload`.
   */
  async load(
    signal: AbortSignal | undefined,
    offload?: OffloadRule,
  ): Promise<{ parts: LayerParts; cacheStatus: CacheStatus } | undefined> {
    const cacheStatus = { state: this.#copies ? "copied" : "mapped", path: this.#path, reason: "" } as const;
    let fits = false;
    try {
      await using file = await this.#open(signal);
      const parts = this.#copies ? await this.#copy(file, signal) : this.#map(file);
      if (offload === undefined) return { parts, cacheStatus };
      parts.dispose();
      fits = true;
      return { parts: this.#map(file, offload), cacheStatus };
    } catch (error) {
      signal?.throwIfAborted();
      // If the file fits, only BAD_CHECKPOINT is about the file, which has been cut short since; the others are about `offload`.
      if (!isMoeError(error) || (fits && error.code !== "BAD_CHECKPOINT")) throw error;
      this.#whyNotUsed = error.message;
      return undefined;
    }
  }

  /** Writes a layer's weights for the next time and tells what became of it. Disposes of the layer on failure. */
  async store(layer: LayerParts, signal: AbortSignal | undefined): Promise<CacheStatus> {
    try {
      return await this.#write(layer, signal);
    } catch (error) {
      layer.dispose();
      throw error;
    }
  }

  /** Why {@link load} found nothing. */
  get whyNotUsed(): string {
    return this.#whyNotUsed;
  }

  async #open(signal: AbortSignal | undefined): Promise<SafetensorsFile> {
    const file = await SafetensorsFile.open(this.#path, { signal });
    const other = difference(file.metadata, this.#origin);
    if (other === undefined && file.tensors.has(checksumsName)) return file;
    await file.close();
    throw badCheckpoint(
      this.#path,
      other === undefined ? "it has no checksums" : `it was made from something else: ${other}`,
    );
  }

  /** The layer over the mapped file. The device checks the weights before it first uses them. */
  #map(file: SafetensorsFile, offload?: OffloadRule): LayerParts {
    const whole = this.#device.backend.mapFile(file.descriptor, this.#path, endOf(file));
    return this.#over(whole, file, file.tensors.keys(), offload);
  }

  /** The layer over a copy of the file, checked. */
  async #copy(file: SafetensorsFile, signal: AbortSignal | undefined): Promise<LayerParts> {
    const names = [...file.tensors.keys()].filter((name) => name !== checksumsName);
    const whole = this.#device.backend.empty("u8", [endOf(file)]);
    try {
      const bytes = whole.map() as Uint8Array;
      for (const name of names) {
        const { byteOffset, byteLength } = file.info(name);
        await file.readInto(name, bytes.subarray(byteOffset, byteOffset + byteLength), { signal });
      }
    } catch (error) {
      whole.free();
      throw error;
    }
    const layer = this.#over(whole, file, names);
    try {
      const sums = bytesOfArray(await layer.routed.handle.checksums());
      if (Buffer.compare(sums, bytesOfArray((await file.read(checksumsName)).data)) === 0) return layer;
      throw badCheckpoint(this.#path, "its packed weights do not match their checksums");
    } catch (error) {
      layer.dispose();
      throw error;
    }
  }

  /** The layer over parts of `whole`, which holds the file's bytes at their places. Frees the handle. */
  #over(whole: TensorHandle, file: SafetensorsFile, names: Iterable<string>, offload?: OffloadRule): LayerParts {
    const parts = Object.create(null) as Record<string, TensorHandle>;
    try {
      for (const name of names) {
        const { byteOffset, byteLength } = file.info(name);
        parts[name] = whole.view([byteLength], byteOffset);
      }
      return new LayerParts(this.#device, this.#description, { stored: parts, offload, quantizing: this.#quantizing });
    } finally {
      for (const handle of [whole, ...Object.values(parts)]) handle.free();
    }
  }

  async #write(layer: LayerParts, signal: AbortSignal | undefined): Promise<CacheStatus> {
    const path = this.#path;
    const { handle } = layer.routed;
    await layer.clearUnusedRouter();
    const parts = handle.parts();
    try {
      await callFileSystem(path, "written", () => makeFolder(dirname(path)));
      const tensors = await readParts(parts);
      tensors.set(checksumsName, bytesTensor(bytesOfArray(await handle.checksums())));
      const file = layOut(tensors, { metadata: this.#origin, alignment: dataAlignment });
      await writeAtomically(path, file, { mode: readOnly, signal });
      return { state: "written", path, reason: this.#whyNotUsed };
    } catch (error) {
      // Its reason may be a MoeError, too, such as that of another load.
      signal?.throwIfAborted();
      if (!isMoeError(error) || error.code === "DISPOSED") throw error;
      return { state: "failed", path, reason: `${this.#whyNotUsed}; ${error.message}` };
    } finally {
      for (const part of Object.values(parts)) part.free();
    }
  }
}

async function readParts(parts: WeightParts): Promise<Map<string, SafetensorsInput>> {
  const tensors = new Map<string, SafetensorsInput>();
  for (const [name, part] of Object.entries(parts)) {
    tensors.set(name, bytesTensor(await bytesOf(part)));
  }
  return tensors;
}

/** The bytes up to the end of the last tensor. */
function endOf(file: SafetensorsFile): number {
  let end = 0;
  for (const { byteOffset, byteLength } of file.tensors.values()) end = Math.max(end, byteOffset + byteLength);
  return end;
}

function bytesOfArray({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function bytesTensor(data: Uint8Array): SafetensorsInput {
  return { dtype: "U8", shape: [data.byteLength], data };
}

async function bytesOf(part: TensorHandle): Promise<Uint8Array> {
  return part.map() ?? new Uint8Array(await part.read(false));
}
