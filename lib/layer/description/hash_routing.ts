import { cannotCombine, invalidArgument } from "../../core/errors.js";
import { type Fields, integer, object, optional } from "../../core/input/options.js";
import type { GatingRule } from "../../operators/routing/gating_options.js";

/** Hash routing: a table, `expertTable`, has the experts of each token id. */
export interface HashRouting {
  /** V, how many token ids there are. */
  readonly vocabularySize: number;
}

/** How a layer's experts are chosen, if not by its router. */
export interface HashRoutingConfig {
  /**
   * The experts of a token are those that `expertTable` has for its id in the vocabulary (Hash Layers, arXiv 2106.04426; the
   * first layers of DeepSeek-V4): {@link MoeLayer.forward} then takes `tokenIds`. The router still gives the weights: the
   * scores of these experts, normalised and scaled. Default none.
   */
  hashRouting?: HashRouting | undefined;
}

const hashRoutingOption = object(
  { vocabularySize: integer(1, 2 ** 31 - 1) } satisfies Fields<HashRouting>,
  "{ vocabularySize: 129280 }",
);

export const hashRoutingFields = { hashRouting: optional(hashRoutingOption) } satisfies Fields<HashRoutingConfig>;

/** Options of a choice of experts, which a layer with hash routing does not make. */
type ChoiceOptions = Pick<GatingRule, "scoring" | "selectionKey" | "groups"> & {
  readonly [Name in "hierarchy" | "expertChoice" | "noisy"]: object | undefined;
};

/** Refuses the options of a choice, which such a layer does not make: the token ids decide. */
export function checkHashRouting(
  config: ChoiceOptions & { readonly hashRouting: HashRouting | undefined },
): HashRouting | undefined {
  const { hashRouting, scoring, selectionKey, groups, hierarchy, expertChoice, noisy } = config;
  if (hashRouting === undefined) return undefined;
  if (scoring === "sparsemixer") {
    throw invalidArgument(
      "scoring",
      "another scoring with hashRouting, since sparsemixer is part of a choice",
      scoring,
    );
  }
  for (const [name, other] of Object.entries({ selectionKey, groups, hierarchy, expertChoice, noisy })) {
    if (other !== undefined) throw cannotCombine(name, "hashRouting");
  }
  return hashRouting;
}
