/**
 * A strict reader of GGUF files. It needs nothing else from this package: no native addon, no device.
 *
 * @module moe-kernels/gguf
 */
export { isMoeError, MoeError, type MoeErrorCode } from "../../core/errors.js";
export type { OpenOptions } from "../safetensors/file_options.js";
export type { TransferOptions } from "../safetensors/regular_file.js";
export { GgufFile } from "./file.js";
export type { GgufInfo } from "./header.js";
export type { GgufArray, GgufValue } from "./metadata.js";
export { SplitGguf } from "./split.js";
export type { GgufType } from "./types.js";
