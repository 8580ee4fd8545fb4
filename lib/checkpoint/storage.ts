import { isMoeError } from "../core/errors.js";
import type { Shape } from "../core/shape.js";
import { bitsPerWeight, weightFormat } from "../core/weight_formats.js";
import { stackedShape, storedShape, type WeightLayout } from "../layer/weights/weight_layout.js";
import { type LayerSource, mapWeights, type NamedWeight } from "./locate.js";
import { nameOf, type TensorSource, tensorLocator } from "./locate_tensors.js";
import type { LocatedWeight } from "./located_weight.js";
import type { ShardedCheckpoint } from "./safetensors/sharded_checkpoint.js";
import { hasMatrix } from "./schemes/stored_matrix.js";

/** How a checkpoint stores one role of a layer's weights. */
export interface StoredRole {
  /** Such as `router` or `experts.gate`. */
  readonly role: string;
  /** The tensor's name; `{e}` stands for the expert's number. */
  readonly name: string;
  /** The shape of the weights that the tensor holds. */
  readonly shape: Shape;
  readonly layout: WeightLayout;
  /** The formats of its tensors, or dtypes that cannot be loaded. */
  readonly formats: readonly string[];
  /** Bits per weight of the first format, scales included; null if that cannot be loaded. */
  readonly bits: number | null;
}

/** How a checkpoint stores a layer, according to the headers of its files. */
export interface LayerStorage {
  readonly roles: readonly StoredRole[];
  /** Bytes of all tensors that were found. */
  readonly bytes: number;
  /** Of these, the bytes of the routed experts. */
  readonly expertBytes: number;
  /** Number of tensors that the layer needs. */
  readonly tensorCount: number;
  /** The names of those that are missing. */
  readonly missing: readonly string[];
  /** Why tensors that were found cannot be loaded, one message per role. */
  readonly problems: readonly string[];
}

type LayerOf = Pick<LayerSource, "configPath" | "config" | "tensors"> & Pick<TensorSource, "quantization">;

/**
 * Looks for all tensors of a layer, reading headers only.
 * @throws BAD_CHECKPOINT for a malformed file.
 */
export async function inspectStorage(checkpoint: ShardedCheckpoint, layer: LayerOf): Promise<LayerStorage> {
  const { configPath, config, quantization } = layer;
  const { numExperts } = config;
  const has = (name: string) => checkpoint.has(name);
  const fileOf = (name: string) => checkpoint.fileOf(name);
  const locate = tensorLocator({ configPath, numExperts, quantization, has, fileOf });
  const roles = new Map<string, StoredRole>();
  const found = new Map<string, { bytes: number; readonly ofExperts: boolean }>();
  const missing = new Set<string>();
  const problems = new Map<string, string>();

  const note = (role: string, weight: NamedWeight, stored: Shape, format?: string, bits: number | null = null) => {
    const { name, ...layout } = weight;
    const shape = layout.stacked === undefined ? stored : stackedShape(stored, layout.stacked, numExperts);
    const known = roles.get(role) ?? { role, name, shape, layout, formats: [], bits };
    const formats = format === undefined || known.formats.includes(format) ? known.formats : [...known.formats, format];
    roles.set(role, { ...known, formats, bits: known.bits ?? bits });
  };
  /** Counts each byte once: of stacked experts, and of gate and up in one tensor. */
  const counted = new Set<string>();
  const count = ({ ranges }: LocatedWeight, ofExperts: boolean) => {
    for (const { name, byteOffset, byteLength } of ranges) {
      const key = `${byteOffset} ${name}`;
      if (counted.has(key)) continue;
      counted.add(key);
      const tensor = found.get(name) ?? { bytes: 0, ofExperts };
      tensor.bytes += byteLength;
      found.set(name, tensor);
    }
  };

  await mapWeights(layer, async (weight, shape, expert, role) => {
    const name = nameOf(weight, expert);
    if (!hasMatrix(has, name)) {
      missing.add(name);
      note(role, weight, storedShape(shape, weight));
      return;
    }
    try {
      const located = await locate(weight, shape, expert);
      const bits = bitsPerWeight(weightFormat(located.format), located.shape.at(-1) as number);
      note(role, weight, located.shape, located.format, bits);
      count(located, role.startsWith("experts."));
    } catch (error) {
      if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
      if (!problems.has(role)) problems.set(role, error.message);
      const { dtype, byteLength } = has(name) ? (await fileOf(name)).info(name) : {};
      note(role, weight, storedShape(shape, weight), dtype?.toLowerCase());
      found.set(name, { bytes: byteLength ?? 0, ofExperts: role.startsWith("experts.") });
    }
  });

  const bytesOf = (tensors: readonly { readonly bytes: number }[]) =>
    tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const all = [...found.values()];
  return {
    roles: [...roles.values()],
    bytes: bytesOf(all),
    expertBytes: bytesOf(all.filter(({ ofExperts }) => ofExperts)),
    tensorCount: found.size + missing.size,
    missing: [...missing],
    problems: [...problems.values()],
  };
}
