import { createHash } from "node:crypto";
import { mkdir, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { WeightParts } from "../../core/backend.js";
import type { Device } from "../../core/device.js";
import type { FloatDType } from "../../core/dtype.js";
import { isMoeError } from "../../core/errors.js";
import type { TensorHandle } from "../../core/tensor_handle.js";
import { packageVersion } from "../../core/version.js";
import type { MoeLayerConfig, MoeLayerDescription } from "../../layer/description/config.js";
import type { WeightDTypes } from "../../layer/description/storage.js";
import { LayerParts } from "../../layer/layer_parts.js";
import { badCheckpoint, fileSystemError } from "../bad_checkpoint.js";
import { SafetensorsFile } from "../safetensors/file.js";
import { type SafetensorsInput, writeSafetensors } from "../safetensors/writer.js";

/** What became of the cache of a layer's packed weights. */
export interface CacheStatus {
  /**
   * `mapped`: the weights are the file's, nothing was read or repacked. In all other cases they come from the
   * checkpoint. `written`: the file is there for the next time. `failed`: it could not be written. `unsupported`: the
   * device cannot compute with mapped weights (all devices but `cpu`, and `cpu` on Windows).
   */
  readonly state: "mapped" | "written" | "failed" | "unsupported";
  /** The cache file; empty where unsupported. */
  readonly path: string;
  /** Why the weights are not mapped, and why the file could not be written; empty where they are mapped. */
  readonly reason: string;
}

/** The folder of caches in a model directory. */
const folderName = ".moe-kernels";

/** The parts of a layer begin at whole cache lines where the first does. */
const dataAlignment = 4096;

/** What of a layer's options the cache needs. */
export interface CacheOptions {
  readonly layer: number;
  readonly device: Device;
  readonly dtype: FloatDType | WeightDTypes | undefined;
  readonly cache: boolean | string;
}

/**
 * The cache of one layer for one device, bank and dtype: a safetensors file of the layer's parts, with metadata that
 * tell what they were made from. Undefined where `options.cache` does not ask for one.
 * @throws INVALID_ARGUMENT; BAD_CHECKPOINT where the directory cannot be listed.
 */
export async function openWeightCache(
  directory: string,
  config: MoeLayerConfig,
  description: MoeLayerDescription,
  { layer, device, dtype, cache }: CacheOptions,
): Promise<WeightCache | undefined> {
  if (cache === false) return undefined;
  const layout = device.backend.weightLayout(description);
  const { bank, numExperts, formats, biasDType } = description;
  const origin = {
    package: `moe-kernels ${packageVersion}`,
    layout,
    layer: String(layer),
    dtype: dtypeName(dtype),
    storage: JSON.stringify({ ...formats, biases: biasDType }),
    bank: `${bank.first}-${bank.first + bank.count - 1}`,
    configuration: JSON.stringify(config),
    checkpoint: JSON.stringify(await listCheckpoint(directory)),
  };
  const folder = typeof cache === "boolean" ? join(directory, folderName) : join(cache, await modelName(directory));
  const experts = bank.count === numExperts ? [] : [`experts-${origin.bank}`];
  const name = [`layer-${layer}`, ...experts, origin.dtype, layout].join("-");
  return new WeightCache(device, description, join(folder, `${name}.safetensors`), origin);
}

/** A name for the dtypes that were asked for. */
function dtypeName(dtype: FloatDType | WeightDTypes | undefined): string {
  if (typeof dtype !== "object") return dtype ?? "stored";
  const roles = Object.entries(dtype).filter(([, role]) => role !== undefined);
  return ["by-role", ...roles.map(([name, role]) => `${name}-${role}`).sort()].join("-");
}

class WeightCache {
  readonly #device: Device;
  readonly #description: MoeLayerDescription;
  readonly #path: string;
  /** Whatever decides the bytes of the weights; part of the file's metadata. */
  readonly #origin: Readonly<Record<string, string>>;
  #whyNotMapped = "";

  constructor(
    device: Device,
    description: MoeLayerDescription,
    path: string,
    origin: Readonly<Record<string, string>>,
  ) {
    this.#device = device;
    this.#description = description;
    this.#path = path;
    this.#origin = origin;
  }

  /** The layer over the mapped file; undefined where there is none that fits. */
  async load(): Promise<{ parts: LayerParts; cacheStatus: CacheStatus } | undefined> {
    if (!this.#supported) return undefined;
    try {
      return { parts: await this.#map(), cacheStatus: { state: "mapped", path: this.#path, reason: "" } };
    } catch (error) {
      if (!isMoeError(error)) throw error;
      this.#whyNotMapped = error.message;
      return undefined;
    }
  }

  /** Writes a layer's weights for the next time and tells what became of it. Disposes of the layer on failure. */
  async store(layer: LayerParts, signal: AbortSignal | undefined): Promise<CacheStatus> {
    if (!this.#supported) {
      return {
        state: "unsupported",
        path: "",
        reason: `device ${layer.device.name} cannot compute with mapped weights`,
      };
    }
    try {
      return await this.#write(layer, signal);
    } catch (error) {
      layer.dispose();
      throw error;
    }
  }

  get #supported(): boolean {
    return this.#origin.layout !== "";
  }

  async #map(): Promise<LayerParts> {
    await using file = await SafetensorsFile.open(this.#path);
    const { metadata } = file;
    for (const [key, value] of Object.entries(this.#origin)) {
      if (metadata[key] !== value) throw badCheckpoint(this.#path, `it was made from another ${key}`);
    }
    const places = [...file.tensors];
    const byteLength = places.reduce((end, [, info]) => Math.max(end, info.byteOffset + info.byteLength), 0);
    const whole = this.#device.backend.mapFile(file.descriptor, byteLength);
    const parts = places.map(([name, info]) => [name, whole.view([info.byteLength], info.byteOffset)] as const);
    try {
      return new LayerParts(this.#device, this.#description, Object.fromEntries(parts));
    } finally {
      for (const handle of [whole, ...parts.map(([, part]) => part)]) handle.free();
    }
  }

  async #write(layer: LayerParts, signal: AbortSignal | undefined): Promise<CacheStatus> {
    const path = this.#path;
    const parts = layer.onDevice.handle.parts();
    try {
      await makeFolder(dirname(path));
      const tensors = await readParts(parts);
      await writeSafetensors(path, tensors, { metadata: this.#origin, alignment: dataAlignment, signal });
      return { state: "written", path, reason: this.#whyNotMapped };
    } catch (error) {
      if (!isMoeError(error) || error.code === "DISPOSED") throw error;
      return { state: "failed", path, reason: `${this.#whyNotMapped}; ${error.message}` };
    } finally {
      for (const part of Object.values(parts)) part.free();
    }
  }
}

export type { WeightCache };

async function readParts(parts: WeightParts): Promise<Map<string, SafetensorsInput>> {
  const tensors = new Map<string, SafetensorsInput>();
  for (const [name, part] of Object.entries(parts)) {
    const data = await bytesOf(part);
    tensors.set(name, { dtype: "U8", shape: [data.byteLength], data });
  }
  return tensors;
}

async function bytesOf(part: TensorHandle): Promise<Uint8Array> {
  return part.map() ?? new Uint8Array(await part.read(false));
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (cause) {
    throw fileSystemError(path, "written", cause);
  }
}

/** Name, size and time of every file that holds weights or says where they are. */
async function listCheckpoint(directory: string): Promise<[name: string, bytes: string, modified: string][]> {
  try {
    const names = (await readdir(directory)).filter((name) => /\.safetensors(\.index\.json)?$/.test(name)).sort();
    return await Promise.all(
      names.map(async (name) => {
        const { size, mtimeNs } = await stat(join(directory, name), { bigint: true });
        return [name, String(size), String(mtimeNs)] as [string, string, string];
      }),
    );
  } catch (cause) {
    throw fileSystemError(directory, "read", cause);
  }
}

/** A name for the model of a directory among other models: its own, made unique by its whole path. */
async function modelName(directory: string): Promise<string> {
  const path = await realpath(resolve(directory));
  return `${basename(path)}-${createHash("sha256").update(path).digest("hex").slice(0, 12)}`;
}
