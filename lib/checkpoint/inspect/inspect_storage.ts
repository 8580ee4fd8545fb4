import { isMoeError } from "../../core/errors.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { stackedShape, storedShape, type WeightLayout } from "../../layer/weights/weight_layout.js";
import { type LayerSource, mapWeights, nameOf, piecesOf, type WantedWeight } from "../locate/locate_layer.js";
import { bytesOf, type LocatedWeight, RangeCount } from "../locate/located_weight.js";
import type { LayerFiles } from "../opened/layer_files.js";

/** How a checkpoint stores one role of a layer's weights. */
export interface StoredRole {
  /** Such as `router` or `experts.gate`. */
  readonly role: string;
  /** The tensor's name; `{e}` stands for the expert's number. */
  readonly name: string;
  /** The shape of the weights that the tensor holds. */
  readonly shape: Shape;
  /** How the tensor holds the matrices. */
  readonly layout: WeightLayout;
  /** The formats of its tensors, or dtypes that cannot be loaded. */
  readonly formats: readonly string[];
  /** Bits per weight in the first tensor, scales included; null if that cannot be loaded. */
  readonly bits: number | null;
}

/** How a checkpoint stores a layer, according to the headers of its files. */
export interface LayerStorage {
  readonly roles: readonly StoredRole[];
  /** Bytes of all tensors that were found. */
  readonly bytes: number;
  /** How many of them belong to the routed experts. */
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
  { locate, has, find }: LayerFiles,
  layer: Pick<LayerSource, "config" | "tensors" | "bank">,
): Promise<LayerStorage> {
  const roles = new Map<string, StoredRole>();
  const found = new Map<string, { bytes: number; readonly ofExperts: boolean }>();
  const missing = new Set<string>();
  const problems = new Map<string, string>();

  const note = ({ role, weight, count }: WantedWeight, stored: Shape, format?: string, bits: number | null = null) => {
    const { name, factor: _, first: __, constant: ___, joined: ____, ...layout } = weight;
    const shape = layout.stacked === undefined ? stored : stackedShape(stored, layout.stacked, count);
    const known = roles.get(role) ?? { role, name, shape, layout, formats: [], bits };
    const formats = format === undefined || known.formats.includes(format) ? known.formats : [...known.formats, format];
    roles.set(role, { ...known, formats, bits: known.bits ?? bits });
  };
  const counted = new RangeCount();
  const count = (weight: LocatedWeight, ofExperts: boolean) => {
    for (const { name, byteLength } of counted.add(weight)) {
      const tensor = found.get(name) ?? { bytes: 0, ofExperts };
      tensor.bytes += byteLength;
      found.set(name, tensor);
    }
  };

  const visit = async (wanted: WantedWeight) => {
    const { weight, shape, index, role } = wanted;
    const name = nameOf(weight, index);
    if (!has(name)) {
      missing.add(name);
      note(wanted, storedShape(shape, weight));
      return;
    }
    try {
      const located = await locate(wanted);
      const bits = (8 * bytesOf(located)) / shapeSize(located.shape);
      note(wanted, located.shape, located.format, bits);
      count(located, role.startsWith("experts."));
    } catch (error) {
      if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
      if (!problems.has(role)) problems.set(role, error.message);
      const tensor = await find(name);
      note(wanted, storedShape(shape, weight), tensor?.dtype.toLowerCase());
      found.set(name, { bytes: tensor?.byteLength ?? 0, ofExperts: role.startsWith("experts.") });
    }
  };
  await mapWeights(layer, async (wanted) => {
    for (const piece of piecesOf(wanted)) await visit(piece);
  });

  const sum = (tensors: readonly { readonly bytes: number }[]) =>
    tensors.reduce((total, { bytes }) => total + bytes, 0);
  const all = [...found.values()];
  return {
    roles: [...roles.values()],
    bytes: sum(all),
    expertBytes: sum(all.filter(({ ofExperts }) => ofExperts)),
    tensorCount: found.size + missing.size,
    missing: [...missing],
    problems: [...problems.values()],
  };
}
