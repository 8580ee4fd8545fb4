import { MoeError, unexpected } from "../../core/errors.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { groupBy } from "../../core/group_by.js";
import { expertsWithWeights } from "../../layer/description/identity_experts.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import {
  type ComposedWeight,
  type LayerTensors,
  mapWeights,
  type NamedWeight,
  nameOf,
  sizesIn,
} from "../locate/locate_layer.js";
import { tensorLocator } from "../locate/locate_tensors.js";
import { type LocatedWeight, placeOf, type TensorRange } from "../locate/located_weight.js";
import type { Model } from "../model.js";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";
import type { PackedLayout, PackedMatrix } from "./packed_layout.js";

/** A matrix of an expert to quantise. */
export interface PlannedMatrix extends PackedMatrix {
  readonly layer: number;
  /** Such as `experts[3].gate`. */
  readonly place: string;
  readonly role: string;
  /** Its floats: a tensor, or an expert's part of one, which may hold another matrix too. */
  readonly source: LocatedWeight;
}

/** Matrices of the same size that are quantised together and share the scale of their scales. Most are alone. */
export type MatrixSet = readonly [PlannedMatrix, ...PlannedMatrix[]];

/** A tensor to copy, perhaps under another name. */
export interface CopiedTensor {
  readonly name: string;
  readonly target: string;
}

/** A file to write: matrices to quantise, or tensors to copy. */
export interface PlannedFile {
  readonly name: string;
  readonly sets: readonly MatrixSet[];
  readonly copied: readonly CopiedTensor[];
}

/** What becomes of a layer's tensors. */
interface PlannedLayer {
  readonly sets: readonly MatrixSet[];
  /** New names of tensors that are copied. */
  readonly renamed: ReadonlyMap<string, string>;
  /** Whether its tensors get other names than they have. */
  readonly rearranged: boolean;
}

/** Bytes of the source that one file is made from, at most, if it has more than one tensor. */
const bytesPerFile = 2 ** 31;

/** The files of the new checkpoint, in the order in which they are written: what is copied, then layer by layer. */
export async function planFiles(
  model: Model,
  checkpoint: ShardedCheckpoint,
  layout: PackedLayout,
  layers: readonly number[],
): Promise<readonly PlannedFile[]> {
  const planned: PlannedLayer[] = [];
  // Layers of one block may have a shared expert in common.
  const taken = new Set<string>();
  for (const layer of layers) {
    const plan = await planLayer(model, checkpoint, layout, layer);
    const sets = plan.sets.filter(([{ target }]) => !taken.has(target));
    for (const { target } of sets.flat()) taken.add(target);
    planned.push({ ...plan, sets });
  }
  const matrices = planned.flatMap((layer) => layer.sets.flat());
  if (matrices.length === 0) throw badCheckpoint(model.fields.path, "expected layers with experts, got none");
  const all = model.layersWithExperts();
  if (planned.some(({ rearranged }) => rearranged) && !all.every((layer) => layers.includes(layer))) {
    // Readers expect the same storage in every layer.
    throw unexpected("layers", `all layers with experts (${all.join(", ")}), which are stacked`, layers.join(", "));
  }
  for (const matrix of matrices) checkColumns(matrix, layout);
  const quantized = new Set(matrices.map(({ source }) => source.name));
  const renamed = new Map(planned.flatMap((layer) => [...layer.renamed]));
  const others = [...checkpoint.shards.keys()].filter((name) => !quantized.has(name));
  const copies = others.map((name): CopiedTensor => ({ name, target: renamed.get(name) ?? name }));
  const groups: Omit<PlannedFile, "name">[] = [];
  for (const copied of await inFiles(copies, (copy) => bytesOfCopy(copy, checkpoint))) {
    groups.push({ sets: [], copied });
  }
  for (const layer of planned) {
    const bytesOf = async (tensor: readonly MatrixSet[]) =>
      tensor.flat().reduce((sum, one) => sum + bytesOfMatrix(one), 0);
    // A tensor, or those of a set, are in one file.
    for (const some of await inFiles(
      groupBy(layer.sets, ([{ target }]) => target),
      bytesOf,
    )) {
      groups.push({ sets: some.flat(), copied: [] });
    }
  }
  const number = (index: number) => String(index).padStart(5, "0");
  return groups.map((group, index) => ({
    name: `model-${number(index + 1)}-of-${number(groups.length)}.safetensors`,
    ...group,
  }));
}

/** Divides entries into runs of at most {@link bytesPerFile}. */
async function inFiles<T>(entries: readonly T[], bytesOf: (entry: T) => Promise<number>): Promise<T[][]> {
  const files: T[][] = [];
  let bytes = 0;
  for (const entry of entries) {
    const own = await bytesOf(entry);
    if (files.length === 0 || bytes + own > bytesPerFile) {
      files.push([]);
      bytes = 0;
    }
    (files.at(-1) as T[]).push(entry);
    bytes += own;
  }
  return files;
}

/** Bytes of the matrix's floats. */
export function bytesOfMatrix({ source: { ranges, layout } }: PlannedMatrix): number {
  const bytes = (ranges[0] as TensorRange).byteLength;
  return layout.part === undefined ? bytes : bytes / 2;
}

export async function bytesOfCopy({ name }: CopiedTensor, checkpoint: ShardedCheckpoint): Promise<number> {
  return (await checkpoint.fileOf(name)).info(name).byteLength;
}

async function planLayer(
  model: Model,
  checkpoint: ShardedCheckpoint,
  layout: PackedLayout,
  layer: number,
): Promise<PlannedLayer> {
  const config = model.config(layer);
  const { used, others } = model.storages(layer, (name) => checkpoint.has(name));
  refuseComposed(model, used);
  const written = layout.storage(model, used, others);
  const targets = new Map<string, NamedWeight>();
  await mapWeights({ config, tensors: written }, async ({ weight, expert, role }) => {
    targets.set(`${role} ${expert}`, { ...weight, name: nameOf(weight, expert) });
  });
  const locate = tensorLocator({
    origin: sizesIn(model.fields.path),
    quantization: model.quantization,
    tensors: used,
    has: (name) => checkpoint.has(name),
    fileOf: (name) => checkpoint.fileOf(name),
  });
  const matrices: PlannedMatrix[] = [];
  const renamed = new Map<string, string>();
  await mapWeights({ config, tensors: used }, async (wanted) => {
    const { weight, shape, expert, role } = wanted;
    const { name: target, part, stacked } = targets.get(`${role} ${expert}`) as NamedWeight;
    const [set, kind] = role.split(".") as [string, string | undefined];
    if (kind === undefined || shape.length !== 2) {
      if (target !== nameOf(weight, expert)) renamed.set(nameOf(weight, expert), target);
      return;
    }
    const [rows, columns] = shape as [number, number];
    const source = await locate(wanted);
    checkFloats(source);
    matrices.push({
      layer,
      place: set === "experts" ? `experts[${expert}].${kind}` : role,
      role,
      source,
      target,
      ...(stacked && { stack: { experts: expertsWithWeights(config), expert, ...(part && { part }) } }),
      rows,
      columns,
    });
  });
  const setOf = ({ place }: PlannedMatrix) => (layout.pairsGateAndUp ? place.replace(/\.(gate|up)$/, "") : place);
  return { sets: groupBy(matrices, setOf), renamed, rearranged: written !== used || layout.wholeModel };
}

/** Experts that are put together from tensors of others, or from none, have no names that other software reads. */
function refuseComposed({ fields, family }: Model, { experts, lastExperts }: LayerTensors): void {
  const weights: readonly (ComposedWeight | undefined)[] = Object.values(experts);
  const composed = weights.some((weight) => weight?.joined !== undefined || weight?.constant !== undefined);
  if (lastExperts === undefined && !composed) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${fields.path}: expected experts of which each has matrices of its own in one set of tensors, got ${family.modelType}; ` +
      "MoeLayer.load can quantise them, with its option dtype",
  );
}

/** @throws BAD_CHECKPOINT if a weight is quantised. */
export function checkFloats(source: LocatedWeight): void {
  if (isPlain(weightFormat(source.format))) return;
  throw badCheckpoint(placeOf(source), `expected F32, F16 or BF16, got a matrix in ${source.format}`);
}

function checkColumns({ source, columns }: PlannedMatrix, layout: PackedLayout): void {
  if (columns % layout.columnsPerGroup === 0) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${placeOf(source)}: expected columns in whole groups of ${layout.columnsPerGroup}, got ${columns}${layout.narrowerGroups}`,
  );
}
