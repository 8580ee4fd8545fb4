/**
 * A strict reader and writer of safetensors files. It needs nothing else from this package: no native addon, no device.
 *
 * @module moe-kernels/safetensors
 */
export { isMoeError, MoeError, type MoeErrorCode } from "../../core/errors.js";
export { parseSafetensors, serializeSafetensors } from "./buffer.js";
export type { SafetensorsArray, SafetensorsArrayOf, SafetensorsDType } from "./dtype.js";
export { SafetensorsFile, type SafetensorsTensor } from "./file.js";
export type { OpenOptions } from "./file_options.js";
export type { SafetensorsInfo } from "./header.js";
export type { TransferOptions } from "./regular_file.js";
export { ShardedCheckpoint } from "./sharded_checkpoint.js";
export { type ShardedWriteOptions, type StreamedInput, writeShardedSafetensors } from "./sharded_writer.js";
export {
  type SafetensorsInput,
  type SafetensorsInputs,
  type SerializeOptions,
  writeSafetensors,
} from "./writer.js";
