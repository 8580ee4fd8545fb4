import type { Family } from "./family.js";
import { mixtral } from "./mixtral.js";
import { olmoe } from "./olmoe.js";
import { qwen3Moe } from "./qwen3_moe.js";

/** Every known family by its `model_type`. */
export const families: ReadonlyMap<string, Family> = new Map(
  [mixtral, olmoe, qwen3Moe].map((family) => [family.modelType, family]),
);
