import { type Family, layerCount } from "./family.js";
import { mixtral } from "./mixtral.js";

/** MiniMaxConfig and MiniMaxSparseMoeBlock of Transformers, which are Mixtral's; MiniMax's own code for Text-01 agrees. */
function minimaxFamily(modelType: string): Family {
  return {
    ...mixtral,
    modelType,
    layerCount: layerCount(32),
    config: (fields) => {
      // MiniMax-M2, whose scores are sigmoids, was published as `minimax` too.
      fields.require("scoring_func", "softmax");
      fields.require("shared_intermediate_size", 0);
      return mixtral.config(fields, 0);
    },
  };
}

/** MiniMax-Text-01 and M1, as converted for Transformers. */
export const minimax = minimaxFamily("minimax");

/** The same as MiniMax published them, with code of its own. */
export const minimaxText01 = minimaxFamily("minimax_text_01");
export const minimaxM1 = minimaxFamily("minimax_m1");
