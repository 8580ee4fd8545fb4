import type { LayerFormats } from "../../core/device/backend.js";
import { nothingRounds, type TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { MoeLayerDescription } from "./config.js";
import { matrixRoles } from "./storage.js";

/**
 * The layer with products that round their rows.
 * @throws INVALID_ARGUMENT if no matrix of its experts is quantised.
 */
export function withTokenFormat(description: MoeLayerDescription, tokenFormat: TokenFormat): MoeLayerDescription {
  const { formats } = description;
  if (tokenFormat === "none" || quantizedFormats(formats).length > 0) return { ...description, tokenFormat };
  throw nothingRounds("tokenFormat", [formats.up], tokenFormat);
}

/** The formats of the experts' matrices that are quantised. */
export function quantizedFormats({ shared, ...experts }: LayerFormats): readonly WeightFormatName[] {
  const all = [experts, shared].flatMap((group) => (group ? matrixRoles.map((role) => group[role]) : []));
  return all.filter((format) => !isPlain(weightFormat(format)));
}
