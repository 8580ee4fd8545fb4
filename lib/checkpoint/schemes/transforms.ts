import { badCheckpoint } from "../bad_checkpoint.js";
import { isRecord } from "../safetensors/strict_json.js";
import type { Quantization } from "./quantization.js";

/** Targets of a configuration that are no part of an MoE block. */
export const elsewhere = /attn|[qkvo]_proj|lm_head/;

/**
 * Refuses rotations of the experts' inputs or outputs that take place when a model runs (QuIP, SpinQuant), because nothing
 * here does them. Those of the weights alone are in the weights.
 * @throws BAD_CHECKPOINT
 */
export function refuseTransforms({ fields }: Quantization): void {
  if (fields === undefined) return;
  for (const name of ["rotation_config", "spinquant_config"]) {
    if (fields.has(name)) throw refusal(fields.path, name, "one");
  }
  const groups = fields.section("transform_config")?.value("config_groups");
  for (const [name, scheme] of Object.entries(isRecord(groups) ? groups : {})) {
    const uses = isRecord(scheme) && Array.isArray(scheme.apply) ? scheme.apply.filter(isRecord) : [];
    for (const { location, targets } of uses) {
      if (location !== "input" && location !== "output") continue;
      const where = [targets].flat().map(String);
      if (where.every((target) => elsewhere.test(target))) continue;
      throw refusal(fields.path, `transform_config: ${name}`, `one of ${JSON.stringify(where)}`);
    }
  }
}

function refusal(path: string, field: string, got: string): Error {
  return badCheckpoint(path, `${field}: expected no rotation of the experts' inputs or outputs, got ${got}`);
}
