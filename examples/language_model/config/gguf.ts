import { GgufFile } from "moe-kernels/gguf";
import { checkConfig, dividedStream, type Family, type ModelConfig, yarnScale } from "./config.js";
import { ggufNames } from "./names.js";

/** Families by the names that GGUF has for them. */
const architectures: ReadonlyMap<unknown, Family> = new Map([
  ["llama", "mixtral"],
  ["qwen2moe", "qwen2_moe"],
  ["qwen3moe", "qwen3_moe"],
  ["olmoe", "olmoe"],
  ["gpt-oss", "gpt_oss"],
  ["glm4moe", "glm4_moe"],
  ["granitemoe", "granitemoe"],
]);

/** Families whose rows of queries and keys are in another order there, so that neighbours are a pair. */
const alternating: ReadonlySet<Family> = new Set(["mixtral", "granitemoe"]);

/** Reads the metadata of a GGUF file. @throws RangeError for what this example does not compute. */
export async function readGgufConfig(path: string): Promise<ModelConfig> {
  await using file = await GgufFile.open(path);
  const { metadata } = file;
  const architecture = metadata.get("general.architecture");
  const family = architectures.get(architecture);
  if (family === undefined) {
    const expected = [...architectures.keys()].join(", ");
    throw new RangeError(`${path}: expected general.architecture ${expected}, got ${JSON.stringify(architecture)}`);
  }
  const number = (key: string) => {
    const value = metadata.get(`${architecture}.${key}`);
    return value === undefined ? undefined : Number(value);
  };
  const needed = (key: string) => number(key) ?? Number.NaN;
  const scaling = metadata.get(`${architecture}.rope.scaling.type`) ?? "none";
  if (scaling !== "none" && scaling !== "yarn") {
    throw new RangeError(`${path}: expected rope.scaling.type none or yarn, got ${JSON.stringify(scaling)}`);
  }
  const attention = number("rope.scaling.attn_factor") ?? 1;
  if (attention !== 1) throw new RangeError(`${path}: expected rope.scaling.attn_factor 1, got ${attention}`);
  const factor = needed("rope.scaling.factor");
  const yarn = {
    factor,
    firstContext: needed("rope.scaling.original_context_length"),
    fast: number("rope.scaling.yarn_beta_fast") ?? 32,
    slow: number("rope.scaling.yarn_beta_slow") ?? 1,
    // No metadata say this; gpt-oss, which is the family that needs YaRN, does not round.
    truncate: false,
    scale: yarnScale(factor),
  };
  const [layers, hiddenSize, heads] = [
    // The last layers may be those that predict further tokens.
    needed("block_count") - (number("nextn_predict_layers") ?? 0),
    needed("embedding_length"),
    needed("attention.head_count"),
  ];
  const headSize = number("attention.key_length") ?? hiddenSize / heads;
  // 0 stands for a scale that a model does not have.
  const scale = (key: string) => number(key) || 1;
  const window = number("attention.sliding_window") ?? Infinity;
  const config = {
    family,
    layers,
    hiddenSize,
    heads,
    keyValueHeads: number("attention.head_count_kv") ?? heads,
    headSize,
    valueSize: headSize,
    latent: undefined,
    attentionScale: number("attention.scale") || headSize ** -0.5,
    ...dividedStream(scale("embedding_scale"), scale("residual_scale"), needed("attention.layer_norm_rms_epsilon")),
    logitScale: 1 / scale("logit_scale"),
    vocabulary: file.info("token_embd.weight").shape[0] as number,
    dense: { intermediateSize: needed("feed_forward_length"), activation: "silu" },
    rotary: {
      theta: number("rope.freq_base") ?? 10_000,
      size: number("rope.dimension_count") ?? headSize,
      neighbours: alternating.has(family),
      yarn: scaling === "yarn" ? yarn : undefined,
    },
    // gpt-oss has a window in every second layer, from the first on.
    windows: Array.from({ length: layers }, (_, layer) =>
      family === "gpt_oss" && layer % 2 === 0 ? window : Infinity,
    ),
    names: ggufNames(family),
  };
  return checkConfig(config, path);
}
