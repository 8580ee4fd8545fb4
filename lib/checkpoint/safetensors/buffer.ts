import { invalidArgument } from "../../core/errors.js";
import { viewAs } from "./dtype.js";
import type { SafetensorsTensor } from "./file.js";
import { headerLength, lengthBytes, parseHeader } from "./header.js";
import { layOut, type SafetensorsInputs, type SerializeOptions, serializeOptions } from "./writer.js";

/**
 * The bytes that {@link writeSafetensors} would write to a file.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH naming the tensor and what was expected.
 */
export function serializeSafetensors(tensors: SafetensorsInputs, options: SerializeOptions = {}): Uint8Array {
  return Buffer.concat(layOut(tensors, serializeOptions(options, "options")));
}

/**
 * Parses a whole file in memory, as strictly as SafetensorsFile.open. The data are views of `bytes` where alignment
 * allows, and copies otherwise.
 * @throws BAD_CHECKPOINT
 */
export function parseSafetensors(bytes: Uint8Array): {
  tensors: Map<string, SafetensorsTensor>;
  metadata: Readonly<Record<string, string>>;
} {
  if (!(bytes instanceof Uint8Array)) throw invalidArgument("bytes", "a Uint8Array", bytes);
  const place = "safetensors";
  const dataOffset = lengthBytes + headerLength(place, bytes, bytes.byteLength);
  const { tensors, metadata } = parseHeader(place, bytes.subarray(lengthBytes, dataOffset), bytes.byteLength);
  const parsed = Array.from(tensors, ([name, { dtype, shape, byteOffset, byteLength }]) => {
    const data = viewAs(dtype, bytes.subarray(byteOffset, byteOffset + byteLength));
    return [name, { dtype, shape, data } as SafetensorsTensor] as const;
  });
  return { tensors: new Map(parsed), metadata };
}
