import type { ConfigFields } from "../config_fields.js";
import { type Family, fusedExpert, gatedActivation, gatedExpert, layerCount, stackedOrSingle } from "./family.js";

/**
 * Granite 3 and 4: GraniteMoeConfig and GraniteMoeMoE of Transformers. Softmax over the chosen; stacked experts; in some
 * classes a shared expert.
 * @param sharedWidth of the shared expert if the configuration does not say.
 */
function graniteFamily(modelType: string, sharedWidth: number | undefined): Family {
  const widthOf = (fields: ConfigFields) =>
    sharedWidth === undefined ? 0 : fields.integer("shared_intermediate_size", sharedWidth, { minimum: 0 });
  return {
    modelType,
    layerCount: layerCount(32),
    hasExperts: (fields) => fields.integer("num_local_experts", 8, { minimum: 0, alias: "num_experts" }) > 0,
    config: (fields) => {
      const width = widthOf(fields);
      return {
        hiddenSize: fields.integer("hidden_size", 4096),
        intermediateSize: fields.integer("intermediate_size", 11008),
        numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
        topK: fields.integer("num_experts_per_tok", 2),
        scoring: "softmax_selected",
        activation: gatedActivation(fields),
        ...(width > 0 && { sharedExpert: { intermediateSize: width } }),
      };
    },
    tensors: (prefix, fields) => {
      const block = `${prefix}.block_sparse_moe`;
      const stack = (name: string) => ({ name: `${block}.${name}.weight`, stacked: "dim0" }) as const;
      const linear = (name: string) => ({ name: `${prefix}.shared_mlp.${name}.weight` });
      const others = (router: string) => ({
        router: { name: `${block}.${router}.weight` },
        ...(widthOf(fields) > 0 && { shared: fusedExpert(linear("input_linear"), linear("output_linear")) }),
      });
      // vLLM gives single experts Mixtral's names, under which it also reads quantised ones; the others are Transformers 5's.
      return [
        { experts: fusedExpert(stack("input_linear"), stack("output_linear")), ...others("router.layer") },
        { experts: gatedExpert(`${block}.experts.{e}`, ["w1", "w3", "w2"]), ...others("router.layer") },
        ...stackedOrSingle(others("router"), `${block}.experts`),
      ];
    },
  };
}

export const graniteMoe = graniteFamily("granitemoe", undefined);

/** GraniteMoeSharedConfig. */
export const graniteMoeShared = graniteFamily("granitemoeshared", 0);

/** GraniteMoeSWAConfig, whose attention alone differs. */
export const graniteMoeSwa = graniteFamily("granitemoe_swa", 0);

/** Granite 4.0: GraniteMoeHybridConfig. */
export const graniteMoeHybrid = graniteFamily("granitemoehybrid", 1024);
