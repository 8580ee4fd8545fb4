import { GgufFile } from "moe-kernels/gguf";
import {
  checkConfig,
  dividedStream,
  type Family,
  type HeadConfig,
  latentEpsilon,
  latentScale,
  type ModelConfig,
  type Rotary,
  type Yarn,
  yarnScale,
} from "./config.js";
import { ggufNames } from "./names.js";

/** Families by the names that GGUF has for them; of those with one name, which differ in their experts only, the first. */
const architectures: ReadonlyMap<unknown, Family> = new Map([
  ["llama", "mixtral"],
  ["qwen2moe", "qwen2_moe"],
  ["qwen3moe", "qwen3_moe"],
  ["olmoe", "olmoe"],
  ["gpt-oss", "gpt_oss"],
  ["glm4moe", "glm4_moe"],
  ["granitemoe", "granitemoe"],
  ["deepseek2", "deepseek_v2"],
]);

/** Families whose rows of queries and keys are in another order there, so that neighbours are a pair. */
const alternating: ReadonlySet<Family> = new Set(["mixtral", "granitemoe"]);

/** The numbers in an architecture's metadata. */
class Numbers {
  readonly #metadata: GgufFile["metadata"];
  readonly #architecture: unknown;

  constructor(metadata: GgufFile["metadata"], architecture: unknown) {
    this.#metadata = metadata;
    this.#architecture = architecture;
  }

  find(key: string): number | undefined {
    const value = this.#metadata.get(`${this.#architecture}.${key}`);
    return value === undefined ? undefined : Number(value);
  }

  /** NaN, which {@link checkConfig} refuses, if it is missing. */
  need(key: string): number {
    return this.find(key) ?? Number.NaN;
  }

  /** As `find`; 0 stands for a scale that a model does not have. */
  scale(key: string): number {
    return this.find(key) || 1;
  }
}

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
  const numbers = new Numbers(metadata, architecture);
  const scaling = metadata.get(`${architecture}.rope.scaling.type`) ?? "none";
  if (scaling !== "none" && scaling !== "yarn") {
    throw new RangeError(`${path}: expected rope.scaling.type none or yarn, got ${JSON.stringify(scaling)}`);
  }
  for (const [key, none] of notComputed) {
    const value = numbers.find(key) ?? none;
    if (value !== none) throw new RangeError(`${path}: expected ${key} ${none}, got ${value}`);
  }
  const [layers, hiddenSize] = [
    // The last layers may be those that predict further tokens.
    numbers.need("block_count") - (numbers.find("nextn_predict_layers") ?? 0),
    numbers.need("embedding_length"),
  ];
  const window = numbers.find("attention.sliding_window") ?? Infinity;
  const yarn = scaling === "yarn" ? yarnOf(numbers, family) : undefined;
  const config = {
    family,
    layers,
    hiddenSize,
    heads: numbers.need("attention.head_count"),
    ...(numbers.find("attention.kv_lora_rank") === undefined
      ? groupedHeads(numbers, family, yarn)
      : latentHeads(numbers, yarn)),
    ...dividedStream(
      numbers.scale("embedding_scale"),
      numbers.scale("residual_scale"),
      numbers.need("attention.layer_norm_rms_epsilon"),
    ),
    logitScale: 1 / numbers.scale("logit_scale"),
    vocabulary: file.info("token_embd.weight").shape[0] as number,
    context: numbers.find("context_length"),
    dense: { intermediateSize: numbers.need("feed_forward_length"), activation: "silu" },
    // gpt-oss has a window in every second layer, from the first on.
    windows: Array.from({ length: layers }, (_, layer) =>
      family === "gpt_oss" && layer % 2 === 0 ? window : Infinity,
    ),
    names: ggufNames(family),
  };
  return checkConfig(config, path);
}

/** Factors that this example lacks, and what they are where a model has none. The second is Mistral Large 3's. */
const notComputed = [
  ["rope.scaling.attn_factor", 1],
  ["attention.temperature_scale", 0],
] as const;

function groupedHeads(numbers: Numbers, family: Family, yarn: Yarn | undefined): HeadConfig {
  const heads = numbers.need("attention.head_count");
  const headSize = numbers.find("attention.key_length") ?? numbers.need("embedding_length") / heads;
  return {
    keyValueHeads: numbers.find("attention.head_count_kv") ?? heads,
    headSize,
    valueSize: headSize,
    attentionScale: numbers.find("attention.scale") || headSize ** -0.5,
    rotary: rotaryOf(numbers, numbers.find("rope.dimension_count") ?? headSize, alternating.has(family), yarn),
    latent: undefined,
  };
}

/**
 * Multi-head latent attention. Sizes of a head of keys and values have names of their own where the ordinary names are for
 * those of latents, as in files with stacks of matrices.
 */
function latentHeads(numbers: Numbers, yarn: Yarn | undefined): HeadConfig {
  const [rank, turnedSize] = [numbers.need("attention.kv_lora_rank"), numbers.need("rope.dimension_count")];
  const size = numbers.find("attention.key_length_mla") ?? numbers.need("attention.key_length");
  // A tenth of mscale_all_dim. Files have no mscale, which is equal in published models, so turned heads need no factor.
  const share = 10 * (numbers.find("rope.scaling.yarn_log_multiplier") ?? 0);
  return {
    keyValueHeads: 1,
    headSize: rank + turnedSize,
    valueSize: rank,
    attentionScale: latentScale(size, yarn?.factor ?? 1, share),
    rotary: rotaryOf(numbers, turnedSize, true, yarn && { ...yarn, scale: share === 0 ? yarn.scale : 1 }),
    latent: {
      queryRank: numbers.find("attention.q_lora_rank"),
      plainSize: size - turnedSize,
      valueSize: numbers.find("attention.value_length_mla") ?? numbers.need("attention.value_length"),
      epsilon: latentEpsilon,
    },
  };
}

function rotaryOf(numbers: Numbers, size: number, neighbours: boolean, yarn: Yarn | undefined): Rotary {
  return { theta: numbers.find("rope.freq_base") ?? 10_000, size, neighbours, yarn };
}

function yarnOf(numbers: Numbers, family: Family): Yarn {
  const factor = numbers.need("rope.scaling.factor");
  return {
    factor,
    firstContext: numbers.need("rope.scaling.original_context_length"),
    fast: numbers.find("rope.scaling.yarn_beta_fast") ?? 32,
    slow: numbers.find("rope.scaling.yarn_beta_slow") ?? 1,
    // No metadata say this; gpt-oss does not round.
    truncate: family !== "gpt_oss",
    scale: yarnScale(factor),
  };
}
