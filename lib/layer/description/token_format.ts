import { nothingRounds, type TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { MoeLayerDescription } from "./config.js";
import { matrixRoles, presentRoles } from "./storage.js";

/**
 * The layer with products that round their rows.
 * @throws INVALID_ARGUMENT if no matrix of its experts is quantised.
 */
export function withTokenFormat(description: MoeLayerDescription, tokenFormat: TokenFormat): MoeLayerDescription {
  if (tokenFormat === "none" || quantizedFormats(description).length > 0) return { ...description, tokenFormat };
  throw nothingRounds("tokenFormat", [description.formats.up], tokenFormat);
}

/** The formats of the experts' matrices that are quantised. Those of roles that its experts do not have do not count. */
export function quantizedFormats(
  description: Pick<MoeLayerDescription, "formats" | "activation" | "multiplier">,
): readonly WeightFormatName[] {
  const { shared, ...experts } = description.formats;
  const roles = presentRoles(matrixRoles, description);
  const all = [experts, shared].flatMap((group) => (group ? roles.map((role) => group[role]) : []));
  return all.filter((format) => !isPlain(weightFormat(format)));
}
