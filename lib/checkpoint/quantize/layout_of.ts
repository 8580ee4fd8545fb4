import type { WeightFormat } from "../../core/formats/weight_format.js";
import type { Family } from "../families/family.js";
import { compressedTensors } from "./compressed_tensors.js";
import { gptOssMxfp4 } from "./gpt_oss_mxfp4.js";
import { mlxAffine } from "./mlx.js";
import type { PackedLayout } from "./packed_layout.js";

/** The layout of a family's experts in a format. @throws UNSUPPORTED_DTYPE if other software reads none. */
export function layoutOf(family: Family, format: WeightFormat): PackedLayout {
  if (family.modelType === "gpt_oss") return gptOssMxfp4(format);
  return mlxAffine(format) ?? compressedTensors(format);
}
