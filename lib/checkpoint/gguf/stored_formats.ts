import type { WeightFormatName } from "../../core/weight_format.js";
import type { WeightDTypes } from "../../layer/description/storage.js";
import { type LayerSource, locateLayer } from "../locate.js";

/**
 * The option `dtype` for a layer of a GGUF file. By default every role keeps the file's format, as routers are float32
 * there whatever the experts are. But experts and the shared expert have one format for each role in memory, and in files
 * they may differ: such a role becomes float32.
 */
export async function storedFormats(
  source: LayerSource,
  given: WeightFormatName | WeightDTypes = {},
): Promise<WeightFormatName | WeightDTypes> {
  if (typeof given === "string" || given.experts !== undefined) return given;
  const { experts, shared } = await locateLayer({ ...source, bank: { first: 0, count: 1 } });
  const mixed: WeightDTypes = {};
  for (const role of ["gate", "up", "down"] as const) {
    const [own, other] = [experts[0]?.[role]?.format, shared?.[role]?.format];
    if (other !== undefined && other !== own) mixed[role] = "f32";
  }
  return { ...mixed, ...given };
}
