import { awq } from "./awq.js";
import { bnb4 } from "./bitsandbytes.js";
import { fp8 } from "./fp8.js";
import { gptq } from "./gptq.js";
import { hqq } from "./hqq.js";
import { byteInt4, modeloptInt4 } from "./int4.js";
import { bnbInt8, int8 } from "./int8.js";
import { mlx } from "./mlx.js";
import { deepseekMxfp4, gptOssMxfp4, packedMxfp4, plainMxfp4 } from "./mxfp4.js";
import { modeloptNvfp4, packedNvfp4 } from "./nvfp4.js";
import { packedIntegers } from "./packed_integers.js";
import type { Scheme } from "./scheme.js";
import { byteIntegers, int4Parts } from "./torchao.js";

/** Every way in which files may store quantised matrices; the first that takes a matrix reads it. */
export const schemes: readonly Scheme[] = [
  // May view its codes as any dtype, so it comes before those that look at the dtype.
  bnb4,
  // Of a class that the file names.
  int4Parts,
  byteIntegers,
  fp8,
  gptOssMxfp4,
  deepseekMxfp4,
  packedMxfp4,
  plainMxfp4,
  packedNvfp4,
  modeloptNvfp4,
  modeloptInt4,
  packedIntegers,
  // Before those in I8 that have a byte for each code.
  byteInt4,
  int8,
  bnbInt8,
  gptq,
  awq,
  mlx,
  hqq,
];
