import { typedArray } from "../../core/input/foreign.js";
import { allocated } from "../../core/tensors/allocated.js";
import { viewAs } from "./dtype.js";
import type { SafetensorsTensor } from "./file.js";
import { headerLength, lengthBytes, parseHeader } from "./header.js";
import { layOut, type SafetensorsInputs, type SerializeOptions, serializeOptions } from "./writer.js";

/**
 * The bytes that {@link writeSafetensors} would write to a file.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH naming the tensor and what was expected.
 */
export function serializeSafetensors(tensors: SafetensorsInputs, options: SerializeOptions = {}): Uint8Array {
  const parts = layOut(tensors, serializeOptions(options, "options"));
  const message = "tensors: no memory for the file's bytes; write it with writeSafetensors";
  const length = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return allocated(length, message, () => {
    const file = new Uint8Array(length);
    let offset = 0;
    for (const { bytes, byteLength } of parts) {
      file.set(bytes, offset);
      offset += byteLength;
    }
    return file;
  });
}

/**
 * Parses a whole file in memory, as strictly as SafetensorsFile.open. The data are views of `bytes` where alignment
 * allows, and copies otherwise.
 * @throws BAD_CHECKPOINT
 */
export function parseSafetensors(bytes: Uint8Array): {
  /** By name, in the order of their data. */
  tensors: Map<string, SafetensorsTensor>;
  /** The file's `__metadata__`; empty if it has none. */
  metadata: Readonly<Record<string, string>>;
} {
  const file = typedArray("bytes", bytes, ["Uint8Array"], "a Uint8Array");
  const place = "safetensors";
  const dataOffset = lengthBytes + headerLength(place, file, file.byteLength);
  const { tensors, metadata } = parseHeader(place, file.subarray(lengthBytes, dataOffset), file.byteLength);
  const parsed = Array.from(tensors, ([name, { dtype, shape, byteOffset, byteLength }]) => {
    const data = viewAs(dtype, file.subarray(byteOffset, byteOffset + byteLength));
    return [name, { dtype, shape, data } as SafetensorsTensor] as const;
  });
  return { tensors: new Map(parsed), metadata };
}
