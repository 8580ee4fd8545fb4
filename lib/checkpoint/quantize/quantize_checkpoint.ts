import { join } from "node:path";
import { packageVersion } from "../../core/addon/version.js";
import type { Device } from "../../core/device/device.js";
import type { WeightFormat, WeightFormatName } from "../../core/formats/weight_format.js";
import { withPlaceInMemoryErrors } from "../../core/tensors/allocated.js";
import { quantizableFormat, type ScaleChoice } from "../../operators/formats/quantize.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { checkLayers } from "../layers_with_experts.js";
import { placeOf } from "../locate/located_weight.js";
import { SafetensorsFile } from "../safetensors/file.js";
import { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";
import { type SafetensorsInput, writeSafetensors } from "../safetensors/writer.js";
import { layoutOf } from "./layout_of.js";
import { type Existing, OutputFolder } from "./output_folder.js";
import { addMatrix, type PackedLayout } from "./packed_layout.js";
import { bytesOfCopy, bytesOfMatrix, type MatrixSet, type PlannedFile, type PlannedMatrix, planFiles } from "./plan.js";
import { type MatrixError, quantizeMatrices, type SourceMatrix } from "./quantize_matrix.js";
import { checkFloatModel, readSource, sourceOf } from "./source.js";
import { StoredMatrices } from "./stored_matrices.js";

export interface QuantizeCheckpointOptions {
  readonly device: Device;
  readonly format: WeightFormatName;
  readonly out: string;
  readonly scale: ScaleChoice;
  readonly existing: Existing;
  /** The layers whose experts are quantised; default all that have experts. */
  readonly layers?: readonly number[] | undefined;
  /** Called with the share that is done, 0 .. 1. */
  readonly onProgress: (share: number) => void;
}

/** What was written. */
export interface QuantizedCheckpoint {
  readonly out: string;
  readonly format: WeightFormatName;
  readonly scale: ScaleChoice;
  readonly files: number;
  /** How many of them an interrupted run had written. */
  readonly resumed: number;
  /** Bytes of the checkpoint's tensors, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly errors: readonly MatrixError[];
  /** Why a GGUF file has no tokenizer; empty if it has one. */
  readonly whyNoTokenizer?: string;
}

/** The metadata of a written file that holds the errors of its matrices. */
const errorsKey = "moe-kernels.quantization_errors";

/**
 * Quantises the experts' matrices of a Hugging Face model directory, and writes another as compressed-tensors does: each
 * matrix in `weight_packed`, `weight_scale` and so on, `quantization_config` in config.json, all else as it was. Experts
 * that are stacked in one tensor get the family's names for single ones; those of gpt-oss stay stacked, in its own layout;
 * and with minima they are stacked as MLX has them.
 * @throws UNSUPPORTED_DTYPE for a format in which other software does not read the family; UNSUPPORTED_OPERATION for
 * families without names for single experts and for columns that are no whole groups; BAD_CHECKPOINT; WRITE_FAILED;
 * INVALID_ARGUMENT for a folder that must not be used, and for some layers of a model whose stacked experts are rearranged.
 */
export async function quantizeCheckpoint(
  directory: string,
  options: QuantizeCheckpointOptions,
): Promise<QuantizedCheckpoint> {
  const { out, scale, existing, onProgress } = options;
  const format = quantizableFormat(options.format, "format");
  const model = await readSource(directory);
  const layout = layoutOf(model.family, format);
  checkFloatModel(model);
  await using checkpoint = await ShardedCheckpoint.open(directory);
  const layers = options.layers ? checkLayers(model, options.layers) : model.layersWithExperts();
  const files = await planFiles(model, checkpoint, layout, layers);
  const state = { package: packageVersion, format: format.name, scale, layers, source: await sourceOf(checkpoint) };
  const folder = await OutputFolder.open(directory, out, state, existing);
  const bytesBefore = await totalBytes(files, checkpoint);
  const errors: MatrixError[] = [];
  const weightMap = new Map<string, string>();
  let [bytesDone, bytesAfter, resumed] = [0, 0, 0];
  const report = (bytes: number) => {
    bytesDone += bytes;
    onProgress(bytesDone / bytesBefore);
  };
  for (const file of files) {
    const path = join(out, file.name);
    if (await folder.has(file.name)) {
      resumed++;
      report(await totalBytes([file], checkpoint));
    } else await writeFile(path, file, { checkpoint, device: options.device, format, layout, scale, report });
    await using written = await SafetensorsFile.open(path);
    for (const [name, { byteLength }] of written.tensors) {
      weightMap.set(name, file.name);
      bytesAfter += byteLength;
    }
    errors.push(...readErrors(written));
  }
  await folder.copyFrom(directory);
  const config = { ...model.all, ...layout.configuration(await ignoredModules(files, checkpoint)) };
  const index = { metadata: { total_size: bytesAfter }, weight_map: Object.fromEntries(weightMap) };
  await folder.complete(index, config);
  return { out, format: format.name, scale, files: files.length, resumed, bytesBefore, bytesAfter, errors };
}

async function totalBytes(files: readonly PlannedFile[], checkpoint: ShardedCheckpoint): Promise<number> {
  let total = 0;
  for (const { sets, copied } of files) {
    for (const matrix of sets.flat()) total += bytesOfMatrix(matrix);
    for (const copy of copied) total += await bytesOfCopy(copy, checkpoint);
  }
  return total;
}

interface Work {
  readonly checkpoint: ShardedCheckpoint;
  readonly device: Device;
  readonly format: WeightFormat;
  readonly layout: PackedLayout;
  readonly scale: ScaleChoice;
  /** Called with the bytes of each tensor that is done. */
  readonly report: (bytes: number) => void;
}

async function writeFile(path: string, { sets, copied }: PlannedFile, work: Work): Promise<void> {
  const tensors = new Map<string, SafetensorsInput>();
  const errors: MatrixError[] = [];
  for (const { name, target } of copied) {
    const tensor = await (await work.checkpoint.fileOf(name)).read(name);
    tensors.set(target, tensor);
    work.report(tensor.data.byteLength);
  }
  using stored = new StoredMatrices(work.device);
  for (const set of sets) {
    const bytesOfSet = set.reduce((total, matrix) => total + bytesOfMatrix(matrix), 0);
    await withPlaceInMemoryErrors(placeOf(set[0].source), bytesOfSet, async () => {
      for (const [index, { bytes, error }] of (await quantizeSet(set, stored, work)).entries()) {
        const matrix = set[index] as PlannedMatrix;
        const { layer, place, role } = matrix;
        errors.push({ layer, place, role, error });
        addMatrix(tensors, work.layout, matrix, bytes);
        work.report(bytesOfMatrix(matrix));
      }
    });
  }
  const metadata = {
    format: work.layout.fileFormat,
    ...(errors.length > 0 && { [errorsKey]: JSON.stringify(errors) }),
  };
  await writeSafetensors(path, tensors, { metadata });
}

async function quantizeSet(set: MatrixSet, stored: StoredMatrices, { format, scale }: Work) {
  const [first, ...others] = set;
  const read = async ({ source, rows, columns }: PlannedMatrix): Promise<SourceMatrix> => ({
    values: await stored.read(source, [rows, columns]),
    place: placeOf(source),
  });
  const matrices: [SourceMatrix, ...SourceMatrix[]] = [await read(first)];
  try {
    for (const matrix of others) matrices.push(await read(matrix));
    return await quantizeMatrices(matrices, format, scale);
  } finally {
    for (const { values } of matrices) values.dispose();
  }
}

function readErrors({ metadata, path }: SafetensorsFile): readonly MatrixError[] {
  const text = metadata[errorsKey];
  if (text === undefined) return [];
  try {
    return JSON.parse(text) as readonly MatrixError[];
  } catch (cause) {
    throw badCheckpoint(path, `__metadata__.${errorsKey}: expected JSON`, cause);
  }
}

/** The modules that stay floats: all others that have a matrix. */
async function ignoredModules(files: readonly PlannedFile[], checkpoint: ShardedCheckpoint): Promise<string[]> {
  const modules: string[] = [];
  for (const { name, target } of files.flatMap(({ copied }) => copied)) {
    const { shape } = (await checkpoint.fileOf(name)).info(name);
    if (target.endsWith(".weight") && shape.length === 2) modules.push(target.slice(0, -".weight".length));
  }
  return modules.sort();
}
