import { isMoeError } from "../core/errors.js";
import type { Shape } from "../core/shape.js";
import type { WeightLayout } from "../layer/weights/weight_layout.js";
import { expectedTensor, type LayerSource, locate, mapWeights } from "./locate.js";
import type { SafetensorsDType } from "./safetensors/dtype.js";
import type { ShardedCheckpoint } from "./safetensors/sharded_checkpoint.js";

/** How a checkpoint stores one role of a layer's weights. */
export interface StoredRole {
  /** Such as `router` or `experts.gate`. */
  readonly role: string;
  /** The tensor's name; `{e}` stands for the expert's number. */
  readonly name: string;
  /** The shape that the tensor must have. */
  readonly shape: Shape;
  readonly layout: WeightLayout;
  /** The dtypes of its tensors. */
  readonly dtypes: readonly SafetensorsDType[];
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

/**
 * Looks for all tensors of a layer, reading headers only.
 * @throws BAD_CHECKPOINT for a malformed file.
 */
export async function inspectStorage(
  checkpoint: ShardedCheckpoint,
  layer: Pick<LayerSource, "configPath" | "config" | "tensors">,
): Promise<LayerStorage> {
  const source: LayerSource = { ...layer, fileOf: (name) => checkpoint.fileOf(name) };
  const roles = new Map<string, StoredRole & { readonly dtypes: SafetensorsDType[] }>();
  const found = new Map<string, { readonly bytes: number; readonly ofExperts: boolean }>();
  const missing = new Set<string>();
  const problems = new Map<string, string>();

  await mapWeights(source, async (weight, shape, expert, role) => {
    const { name: pattern, ...layout } = weight;
    const { name, shape: whole } = expectedTensor(source, weight, shape, expert);
    const stored = roles.get(role) ?? { role, name: pattern, shape: whole, layout, dtypes: [] };
    roles.set(role, stored);
    if (!checkpoint.has(name)) {
      missing.add(name);
      return;
    }
    const { dtype, byteLength } = (await checkpoint.fileOf(name)).info(name);
    if (!stored.dtypes.includes(dtype)) stored.dtypes.push(dtype);
    found.set(name, { bytes: byteLength, ofExperts: role.startsWith("experts.") });
    try {
      await locate(source, weight, shape, expert);
    } catch (error) {
      if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
      if (!problems.has(role)) problems.set(role, error.message);
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
