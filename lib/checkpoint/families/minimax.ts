import { type Family, layerCount } from "./family.js";
import { mixtral } from "./mixtral.js";

/** MiniMax-Text-01: MiniMaxConfig and MiniMaxSparseMoeBlock of Transformers, which are Mixtral's. */
export const minimax: Family = { ...mixtral, modelType: "minimax", layerCount: layerCount(32) };
