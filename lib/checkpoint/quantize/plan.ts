import { MoeError } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { mapWeights, type NamedWeight } from "../locate.js";
import { nameOf } from "../locate_tensors.js";
import type { Model } from "../model.js";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";
import type { PackedLayout } from "./compressed_tensors.js";

/** A matrix of an expert to quantise. */
export interface PlannedMatrix {
  readonly layer: number;
  /** Such as `experts[3].gate`. */
  readonly place: string;
  readonly role: string;
  /** The tensor's name, which ends in `.weight`. */
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
}

/** A file to write: matrices to quantise, or tensors to copy. */
export interface PlannedFile {
  readonly name: string;
  readonly matrices: readonly PlannedMatrix[];
  readonly copied: readonly string[];
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
  const matrices: PlannedMatrix[] = [];
  for (const layer of layers) matrices.push(...(await matricesOf(model, checkpoint, layer)));
  if (matrices.length === 0) throw badCheckpoint(model.fields.path, "expected layers with experts, got none");
  for (const matrix of matrices) await checkMatrix(checkpoint, matrix, layout);
  const quantized = new Set(matrices.map(({ name }) => name));
  const bytesOf = async (name: string) => (await checkpoint.fileOf(name)).info(name).byteLength;
  const others = [...checkpoint.shards.keys()].filter((name) => !quantized.has(name));
  const groups: Omit<PlannedFile, "name">[] = [];
  for (const copied of await inFiles(others, bytesOf)) groups.push({ matrices: [], copied });
  for (const layer of new Set(matrices.map((matrix) => matrix.layer))) {
    const own = matrices.filter((matrix) => matrix.layer === layer);
    for (const some of await inFiles(own, ({ name }) => bytesOf(name))) groups.push({ matrices: some, copied: [] });
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

async function matricesOf(model: Model, checkpoint: ShardedCheckpoint, layer: number): Promise<PlannedMatrix[]> {
  const matrices: PlannedMatrix[] = [];
  const tensors = model.tensors(layer, (name) => checkpoint.has(name));
  await mapWeights({ config: model.config(layer), tensors }, async (weight, shape, expert, place) => {
    const [set, role] = place.split(".") as [string, string | undefined];
    if (role === undefined || shape.length !== 2) return;
    checkStorage(model, weight, place);
    const [rows, columns] = shape as [number, number];
    const where = set === "experts" ? `experts[${expert}].${role}` : place;
    matrices.push({ layer, place: where, role: place, name: nameOf(weight, expert), rows, columns });
  });
  return matrices;
}

/** Matrices have names of their own, which compressed-tensors extends; stacked ones have none. */
function checkStorage(model: Model, { name, stacked, part, orient }: NamedWeight, place: string): void {
  if (stacked === undefined && part === undefined && orient !== "in_out" && name.endsWith(".weight")) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${place} of ${model.fields.path}: expected a tensor [N, K] of its own for each expert's matrix, as ` +
      `compressed-tensors needs it, got them together in ${JSON.stringify(name)}; MoeLayer.load quantises them by dtype`,
  );
}

async function checkMatrix(checkpoint: ShardedCheckpoint, matrix: PlannedMatrix, layout: PackedLayout): Promise<void> {
  const { name, rows, columns } = matrix;
  const { dtype, shape } = (await checkpoint.fileOf(name)).info(name);
  const place = `${checkpoint.directory}: tensor ${JSON.stringify(name)}`;
  if (!["F32", "F16", "BF16"].includes(dtype)) throw badCheckpoint(place, `expected F32, F16 or BF16, got ${dtype}`);
  if (shape.length !== 2 || shape[0] !== rows || shape[1] !== columns) {
    throw badCheckpoint(place, `expected shape [${rows}, ${columns}], got [${shape.join(", ")}]`);
  }
  if (columns % layout.columnsPerGroup === 0) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${place}: expected columns in whole groups of ${layout.columnsPerGroup}, got ${columns}`,
  );
}
