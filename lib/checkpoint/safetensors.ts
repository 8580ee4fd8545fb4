/**
 * A strict reader and writer of safetensors files. It needs nothing else of this package: no native addon, no device.
 *
 * @module
 */
export { isMoeError, MoeError, type MoeErrorCode } from "../errors.js";
export { parseSafetensors, serializeSafetensors } from "./safetensors_buffer.js";
export type { SafetensorsArray, SafetensorsArrayOf, SafetensorsDType } from "./safetensors_dtype.js";
export { SafetensorsFile, type SafetensorsTensor, type TransferOptions } from "./safetensors_file.js";
export type { SafetensorsInfo } from "./safetensors_header.js";
export {
  type SafetensorsInput,
  type SafetensorsInputs,
  type SerializeOptions,
  writeSafetensors,
} from "./safetensors_writer.js";
export { ShardedCheckpoint } from "./sharded_checkpoint.js";
