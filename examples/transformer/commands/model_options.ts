import { type Defaults, UsageError, type Values } from "../../common/command.js";
import { balances, type ModelConfig } from "../model/config.js";

/** Options of a model. */
export const modelOptions = {
  hidden: "128",
  layers: "4",
  heads: "4",
  intermediate: "512",
  context: "128",
  experts: "8",
  "top-k": "2",
  balance: "loss-free",
} satisfies Defaults;
export const modelHelp = `  --hidden N             width of the residual stream (128)
  --layers N             blocks; every second one has a mixture of experts (4)
  --heads N              heads of attention (4)
  --intermediate N       width of dense feed-forward layers, and of a token's experts together (512)
  --context N            tokens of a sequence (128)
  --experts N            experts of a mixture (8)
  --top-k N              experts of a token (2)
  --balance NAME         noisy: noisy top-k and a load-balancing loss; loss-free: a selection bias; loss (loss-free)
`;

/** The model that the options describe; with `dense`, without mixtures. */
export function givenModel(values: Values, kind: Pick<ModelConfig, "vocabulary" | "causal" | "norm">): ModelConfig {
  const intermediateSize = values.integer("intermediate");
  const topK = values.integer("top-k");
  const config = {
    ...kind,
    hiddenSize: values.integer("hidden"),
    layers: values.integer("layers"),
    heads: values.integer("heads"),
    intermediateSize,
    context: values.integer("context"),
  };
  if (values.flag("dense")) return config;
  if (intermediateSize % topK !== 0) {
    throw new UsageError(
      `--intermediate: expected a multiple of the ${topK} experts of a token, got ${intermediateSize}`,
    );
  }
  const mixture = {
    experts: values.integer("experts"),
    topK,
    intermediateSize: intermediateSize / topK,
    balance: values.choice("balance", balances),
  };
  return { ...config, mixture };
}
