import { fp8 } from "./fp8.js";
import { deepseekMxfp4, gptOssMxfp4, packedMxfp4 } from "./mxfp4.js";
import type { Scheme } from "./scheme.js";

/** Every way in which files may store quantised matrices; the first that takes a matrix reads it. */
export const schemes: readonly Scheme[] = [fp8, gptOssMxfp4, deepseekMxfp4, packedMxfp4];
