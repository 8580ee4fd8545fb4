import { abortSignal } from "../../core/device/cancellation.js";
import { invalidArgument, MoeError } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { boolean, callback, type Fields, object, optional } from "../../core/input/options.js";
import { withPlaceInMemoryErrors } from "../../core/tensors/allocated.js";
import { dtypes } from "../../core/tensors/dtype.js";
import { shapeSize } from "../../core/tensors/shape.js";
import type { LayerParts } from "../../layer/layer_parts.js";
import { type HeldTensor, heldTensors } from "../../layer/weights/held_tensors.js";
import { type PartBytes, writeAtomically } from "../safetensors/atomic_file.js";
import { defaultAlignment } from "../safetensors/header.js";
import { exists } from "../safetensors/regular_file.js";
import { storedDTypes } from "../safetensors/stored_dtypes.js";
import { type CheckedInput, checkData, checkSize, fileOf } from "../safetensors/writer.js";
import { savedMetadata } from "./saved_layer.js";

/** Progress of writing a layer's file. */
export interface SaveProgress {
  /** Bytes written so far. */
  bytesWritten: number;
  /** Bytes of the whole file. */
  bytesTotal: number;
}

/** Options of {@link MoeLayer.save}. */
export interface SaveOptions {
  /** Replace a file that is there; default false. */
  overwrite?: boolean | undefined;
  /** Called while the file is written. */
  onProgress?: ((progress: SaveProgress) => void) | undefined;
  /** Stops writing; the promise rejects with the signal's reason, and nothing is left of the file. */
  signal?: AbortSignal | undefined;
}

const saveOptions = object(
  {
    overwrite: optional(boolean, false),
    onProgress: optional(callback<NonNullable<SaveOptions["onProgress"]>>()),
    signal: optional(abortSignal),
  } satisfies Fields<SaveOptions>,
  "{ overwrite: true }",
);

/** Writes a layer to a file of its own, of which at most one tensor is in the host's memory; see {@link MoeLayer.save}. */
export async function saveLayer(parts: LayerParts, path: FilePath, options: SaveOptions): Promise<void> {
  const { overwrite, onProgress, signal } = saveOptions(options, "options");
  const file = filePath(path, "file");
  if (!file.endsWith(".safetensors")) {
    throw invalidArgument("file", "a path that ends in .safetensors, by which MoeLayer.load knows a layer file", file);
  }
  signal?.throwIfAborted();
  void parts.onDevice.handle;
  if (parts.offload !== undefined) {
    const remedy = "load it without offload to save it";
    throw new MoeError("UNSUPPORTED_OPERATION", `save: expected a layer without offload; ${remedy}`);
  }
  if (!overwrite && (await exists(file))) throw fileExists(file);
  const { record } = parts.onDevice;
  const { version } = record;
  const read = async ({ name, shape, dtype, read }: HeldTensor): Promise<ArrayBufferView> => {
    const data = await withPlaceInMemoryErrors(`save: ${name}`, shapeSize(shape) * dtypes[dtype].bytes, read);
    if (record.version === version) return data;
    throw new MoeError("INVALID_ARGUMENT", "save: the layer's weights changed while it was being saved; save it again");
  };
  const tensors = heldTensors(parts).map((tensor) => streamed(tensor, () => read(tensor)));
  const fileParts = fileOf(tensors, { metadata: savedMetadata(parts), alignment: defaultAlignment });
  await writeAtomically(file, fileParts, {
    signal,
    onProgress: onProgress && ((bytesWritten, bytesTotal) => onProgress({ bytesWritten, bytesTotal })),
    ...(!overwrite && { existing: () => fileExists(file) }),
  });
}

function fileExists(file: string): MoeError {
  return new MoeError("INVALID_ARGUMENT", `file: ${file} already exists; pass overwrite: true to replace it`);
}

function streamed(
  { name, dtype, shape }: HeldTensor,
  read: () => Promise<ArrayBufferView>,
): readonly [string, CheckedInput<PartBytes>] {
  const input = { dtype: storedDTypes[dtype], shape, data: undefined };
  const size = checkSize(name, input);
  return [name, { ...size, bytes: async () => checkData(name, input, await read()) }];
}
