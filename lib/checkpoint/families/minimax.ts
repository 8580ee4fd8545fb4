import { type Family, layerCount } from "./family.js";
import { mixtral } from "./mixtral.js";

/** MiniMaxConfig and MiniMaxSparseMoeBlock of Transformers: Mixtral's formula, as in MiniMax's own code for Text-01. */
function minimaxFamily(modelType: string): Family {
  return {
    ...mixtral,
    modelType,
    layerCount: layerCount(32),
    config: (fields) => {
      // MiniMax-M2, which scores with a sigmoid, was published as `minimax` too.
      fields.require("scoring_func", "softmax");
      fields.require("shared_intermediate_size", 0);
      return mixtral.config(fields, 0);
    },
  };
}

/** MiniMax-Text-01 and M1, as converted for Transformers. */
export const minimax = minimaxFamily("minimax");

/** The same models as published by MiniMax, for its own code. */
export const minimaxText01 = minimaxFamily("minimax_text_01");
export const minimaxM1 = minimaxFamily("minimax_m1");
