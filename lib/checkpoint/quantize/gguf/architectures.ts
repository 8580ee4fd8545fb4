import { describe, MoeError } from "../../../core/errors.js";
import type { MoeLayerConfig } from "../../../layer/description/config.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import type { ConfigFields } from "../../config_fields.js";
import { type Gating, gatingNames } from "../../gguf/architecture.js";
import type { MetadataInput } from "../../gguf/write/header.js";

type Keys = Readonly<Record<string, MetadataInput>>;

/**
 * How a family's model directory becomes a GGUF file: names and metadata of llama.cpp (docs, gguf-py and src/models). A file is of
 * the whole model, so this takes more than reading the experts of one: families of which only these are known are not here.
 */
export interface WrittenArchitecture {
  /** `general.architecture`; stands before the keys below. */
  readonly name: string;
  /** Metadata besides those that all have. @param formula that of the layers with experts. */
  keys(fields: ConfigFields, formula: MoeLayerConfig): Keys;
  /** What the tensors of a layer besides its MoE block are called: in the model directory, and in the file. */
  tensors(fields: ConfigFields): Readonly<Record<string, string>>;
  /** Tensors of which the file has parts. */
  parts?(fields: ConfigFields): Readonly<Record<string, readonly HeadPart[]>>;
  /** What the tensors of a dense block are called, if the first layers may have one instead of experts. */
  readonly dense?: Readonly<Record<string, string>>;
  /** Whether a model may have layers that predict further tokens, which configurations do not count, after the others. */
  readonly hasPredictions?: boolean;
  /** How much of a head is turned if the configuration does not say it; 1 for those that turn all. */
  readonly turnedShare?: number;
  /** Whether heads are made from latents: one number says what YaRN multiplies queries and keys by. */
  readonly hasLatents?: boolean;
  /** The tensors that a model may lack. */
  readonly optional?: readonly string[];
  /** Whether layers 0, 2, 4 and so on attend to a window only. */
  readonly slidingEvenLayers?: boolean;
  /** Whether the rows of a head of q and k, whose halves are rotated together, alternate in the file. */
  readonly alternatesHeads?: boolean;
  /** Whether llama.cpp multiplies experts by a `.scale` beside them, as NVFP4 needs it. */
  readonly scalesExperts?: boolean;
  /** Whether the file may lack `output.weight`, for which the embedding stands then. */
  readonly tied?: boolean;
}

/** A stack in the file, of some rows of each head. */
export interface HeadPart {
  readonly target: string;
  readonly first: number;
  readonly rows: number;
  /** Whether a matrix of the stack has inputs first. */
  readonly turned: boolean;
}

const attention = {
  "input_layernorm.weight": "attn_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
} as const;
const biases = {
  "self_attn.q_proj.bias": "attn_q.bias",
  "self_attn.k_proj.bias": "attn_k.bias",
  "self_attn.v_proj.bias": "attn_v.bias",
} as const;
const headNorms = {
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
} as const;
const block = { ...attention, "post_attention_layernorm.weight": "ffn_norm.weight" } as const;

const f32 = (value: number): MetadataInput => ({ f32: value });

function headSize(fields: ConfigFields): number {
  const heads = fields.integer("num_attention_heads", undefined);
  return fields.integer("head_dim", Math.floor(fields.integer("hidden_size", undefined) / heads));
}

/** What metadata say of a formula, where they say all of it. */
function formulaKeys(formula: MoeLayerConfig): Keys {
  const { intermediateSize, sharedExpert, groups, scoring = "softmax", scale = 1, normalize } = formula;
  return {
    expert_feed_forward_length: intermediateSize,
    expert_shared_count: (sharedExpert?.intermediateSize ?? 0) / intermediateSize,
    expert_group_count: groups?.count ?? 1,
    expert_group_used_count: groups?.top ?? 1,
    expert_gating_func: gatingNames.indexOf(scoring as Gating),
    expert_weights_scale: f32(scale),
    ...(normalize === true && { expert_weights_norm: true }),
  };
}

const denseBlock = {
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
} as const;

const latentQueries = {
  "self_attn.q_a_proj.weight": "attn_q_a.weight",
  "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
  "self_attn.q_b_proj.weight": "attn_q_b.weight",
} as const;

/** DeepSeek-V2 and V3, Kimi K2 and GLM-4.7-Flash: DeepseekV2Model of llama.cpp's converter. */
const deepseek2: WrittenArchitecture = {
  name: "deepseek2",
  keys: (fields, formula) => {
    fields.require("attention_bias", false);
    fields.require("rope_interleave", true);
    const latent = latentSizes(fields);
    return {
      // Heads share the latents that their keys and values are made from.
      "attention.head_count_kv": 1,
      "attention.key_length": latent.rank + latent.turned,
      "attention.value_length": latent.rank,
      "attention.key_length_mla": latent.plain + latent.turned,
      "attention.value_length_mla": latent.value,
      "attention.kv_lora_rank": latent.rank,
      ...(hasLatentQueries(fields) && { "attention.q_lora_rank": fields.integer("q_lora_rank", undefined) }),
      "rope.dimension_count": latent.turned,
      ...formulaKeys(formula),
    };
  },
  tensors: (fields) => ({
    "input_layernorm.weight": "attn_norm.weight",
    ...(hasLatentQueries(fields) ? latentQueries : { "self_attn.q_proj.weight": "attn_q.weight" }),
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
  }),
  parts: (fields) => {
    const { plain, value } = latentSizes(fields);
    return {
      "self_attn.kv_b_proj.weight": [
        { target: "attn_k_b.weight", first: 0, rows: plain, turned: true },
        { target: "attn_v_b.weight", first: plain, rows: value, turned: false },
      ],
    };
  },
  dense: denseBlock,
  hasPredictions: true,
  hasLatents: true,
  tied: true,
};

function latentSizes(fields: ConfigFields) {
  return {
    rank: fields.integer("kv_lora_rank", 512),
    plain: fields.integer("qk_nope_head_dim", undefined),
    turned: fields.integer("qk_rope_head_dim", undefined),
    value: fields.integer("v_head_dim", undefined),
  };
}

const hasLatentQueries = (fields: ConfigFields) => fields.has("q_lora_rank");

const architectures: ReadonlyMap<string, WrittenArchitecture> = new Map<string, WrittenArchitecture>([
  [
    "mixtral",
    {
      name: "llama",
      keys: (fields) => {
        refuseField(fields, "sliding_window");
        return { "rope.dimension_count": headSize(fields) };
      },
      tensors: () => block,
      alternatesHeads: true,
      scalesExperts: true,
      tied: true,
    },
  ],
  [
    "qwen2_moe",
    {
      name: "qwen2moe",
      keys: (fields) => {
        fields.require("use_sliding_window", false);
        return {
          expert_feed_forward_length: fields.integer("moe_intermediate_size", undefined),
          expert_shared_feed_forward_length: fields.integer("shared_expert_intermediate_size", undefined),
        };
      },
      tensors: () => ({ ...block, ...biases }),
      optional: Object.keys(biases),
    },
  ],
  [
    "qwen3_moe",
    {
      name: "qwen3moe",
      keys: (fields) => {
        fields.require("use_sliding_window", false);
        return { expert_feed_forward_length: fields.integer("moe_intermediate_size", undefined) };
      },
      tensors: () => ({ ...block, ...headNorms }),
      scalesExperts: true,
      tied: true,
    },
  ],
  [
    "olmoe",
    {
      name: "olmoe",
      keys: (fields) => {
        refuseField(fields, "clip_qkv");
        // llama.cpp norms the keys of all heads at once, and takes them to be as many as those of the queries.
        fields.require("num_key_value_heads", fields.integer("num_attention_heads", undefined));
        return {};
      },
      tensors: () => ({ ...block, ...headNorms }),
    },
  ],
  [
    "granitemoe",
    {
      name: "granitemoe",
      keys: (fields) => ({
        "rope.dimension_count": headSize(fields),
        "attention.scale": f32(fields.number("attention_multiplier", 1)),
        embedding_scale: f32(fields.number("embedding_multiplier", 1)),
        residual_scale: f32(fields.number("residual_multiplier", 1)),
        logit_scale: f32(fields.number("logits_scaling", 1)),
      }),
      tensors: () => block,
      alternatesHeads: true,
      tied: true,
    },
  ],
  [
    "gpt_oss",
    {
      name: "gpt-oss",
      keys: (fields) => ({
        expert_feed_forward_length: fields.integer("intermediate_size", undefined),
        "attention.sliding_window": fields.integer("sliding_window", undefined),
      }),
      tensors: () => ({
        ...attention,
        ...biases,
        "self_attn.o_proj.bias": "attn_output.bias",
        "self_attn.sinks": "attn_sinks.weight",
        "post_attention_layernorm.weight": "post_attention_norm.weight",
      }),
      slidingEvenLayers: true,
    },
  ],
  [
    "glm4_moe",
    {
      name: "glm4moe",
      keys: (fields, formula) => ({
        "rope.dimension_count": Math.floor(headSize(fields) * turnedShare(fields, 0.5)),
        ...formulaKeys(formula),
      }),
      tensors: () => ({
        ...attention,
        ...biases,
        ...headNorms,
        "post_attention_layernorm.weight": "post_attention_norm.weight",
      }),
      optional: [...Object.keys(biases), ...Object.keys(headNorms)],
      dense: denseBlock,
      hasPredictions: true,
      turnedShare: 0.5,
    },
  ],
  ["deepseek_v2", deepseek2],
  ["deepseek_v3", deepseek2],
  ["kimi_k2", deepseek2],
  ["glm4_moe_lite", deepseek2],
]);

/** The architecture of a family. @throws UNSUPPORTED_OPERATION if no GGUF files of it are written. */
export function writtenArchitecture(modelType: string): WrittenArchitecture {
  const found = architectures.get(modelType);
  if (found !== undefined) return found;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `expected a family that can be written as GGUF (${[...architectures.keys()].join(", ")}), got ${modelType}; write a ` +
      "model directory instead, in a format of compressed-tensors",
  );
}

/**
 * The architecture's metadata, without its name before them.
 * @throws BAD_CHECKPOINT for fields that are missing, or that GGUF has no metadata for.
 */
export function architectureKeys(
  architecture: WrittenArchitecture,
  fields: ConfigFields,
  layers: number,
  formula: MoeLayerConfig,
): Keys {
  checkLayerTypes(fields, architecture.slidingEvenLayers === true);
  if (architecture.turnedShare === undefined) requireWholeHeads(fields);
  const heads = fields.integer("num_attention_heads", undefined);
  const given = fields.has("head_dim") ? { key_length: headSize(fields), value_length: headSize(fields) } : {};
  return {
    vocab_size: fields.integer("vocab_size", undefined),
    context_length: fields.integer("max_position_embeddings", undefined),
    embedding_length: fields.integer("hidden_size", undefined),
    block_count: layers,
    feed_forward_length: fields.integer("intermediate_size", undefined),
    "attention.head_count": heads,
    "attention.head_count_kv": fields.integer("num_key_value_heads", heads),
    "attention.layer_norm_rms_epsilon": f32(fields.number("rms_norm_eps", undefined)),
    ...Object.fromEntries(Object.entries(given).map(([name, value]) => [`attention.${name}`, value])),
    ...ropeKeys(fields, architecture),
    ...architecture.keys(fields, formula),
  };
}

/** Fields of `rope_scaling`, or of Transformers 5's `rope_parameters`, that are known. */
const ropeFields = [
  ...["type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings"],
  ...["beta_fast", "beta_slow", "truncate", "partial_rotary_factor"],
];

/** DeepSeek's fields of YaRN: what multiplies the turned parts of queries and keys, and what multiplies all of them. */
const latentFields = ["mscale", "mscale_all_dim"];

function ropeKeys(fields: ConfigFields, { hasLatents }: WrittenArchitecture): Keys {
  const parameters = fields.section("rope_parameters");
  const scaling = fields.section("rope_scaling") ?? parameters;
  const theta = (parameters?.has("rope_theta") ? parameters : fields).number("rope_theta", undefined);
  const base = { "rope.freq_base": f32(theta) };
  if (scaling === undefined) return base;
  const type = scaling.value("rope_type") ?? scaling.value("type") ?? "default";
  const known = [...ropeFields, ...(hasLatents ? latentFields : [])];
  const unknown = Object.keys(scaling.all).find((name) => !known.includes(name));
  if (unknown !== undefined || (type !== "default" && type !== "linear" && type !== "yarn")) {
    const got = unknown === undefined ? describe(type) : `a field ${JSON.stringify(unknown)}`;
    throw badCheckpoint(scaling.path, `expected scaling of the type default, linear or yarn, got ${got}`);
  }
  if (type === "default") return base;
  const common = {
    ...base,
    "rope.scaling.type": type,
    "rope.scaling.factor": f32(scaling.number("factor", undefined)),
  };
  if (type === "linear") return common;
  return {
    ...common,
    "rope.scaling.original_context_length": scaling.integer("original_max_position_embeddings", undefined),
    ...(scaling.has("beta_fast") && { "rope.scaling.yarn_beta_fast": f32(scaling.number("beta_fast", undefined)) }),
    ...(scaling.has("beta_slow") && { "rope.scaling.yarn_beta_slow": f32(scaling.number("beta_slow", undefined)) }),
    ...(hasLatents && latentMultiplier(scaling)),
  };
}

/** A tenth of `mscale_all_dim`, and readers take `mscale` to be the same; without both, they multiply as other models do. */
function latentMultiplier(scaling: ConfigFields): Keys {
  const [turned, all] = latentFields.map((name) => scaling.number(name, 0)) as [number, number];
  if (turned !== all) {
    throw badCheckpoint(scaling.path, `mscale: expected the same as mscale_all_dim, which is ${all}, got ${turned}`);
  }
  return all === 0 ? {} : { "rope.scaling.yarn_log_multiplier": f32(0.1 * all) };
}

/** The kinds of attention by layer, where config.json has them, must be those of the architecture. */
function checkLayerTypes(fields: ConfigFields, slidingEven: boolean): void {
  const types = fields.value("layer_types");
  if (types === undefined) return;
  const kindOf = (layer: number) => (slidingEven && layer % 2 === 0 ? "sliding_attention" : "full_attention");
  const wrong = Array.isArray(types) ? types.findIndex((type, layer) => type !== kindOf(layer)) : 0;
  if (wrong < 0) return;
  const got = describe(Array.isArray(types) ? types[wrong] : types);
  throw badCheckpoint(fields.path, `layer_types[${wrong}]: expected ${JSON.stringify(kindOf(wrong))}, got ${got}`);
}

/** `partial_rotary_factor`, which Transformers 5 has among `rope_parameters`. */
function turnedShare(fields: ConfigFields, fallback: number): number {
  return withTurnedShare(fields).number("partial_rotary_factor", fallback);
}

/** @throws BAD_CHECKPOINT if only a part of each head is turned. */
function requireWholeHeads(fields: ConfigFields): void {
  withTurnedShare(fields).require("partial_rotary_factor", 1);
}

function withTurnedShare(fields: ConfigFields): ConfigFields {
  const parameters = fields.section("rope_parameters");
  return parameters?.has("partial_rotary_factor") ? parameters : fields;
}

function refuseField(fields: ConfigFields, name: string): void {
  if (!fields.has(name)) return;
  throw badCheckpoint(fields.path, `${name}: expected null, got ${describe(fields.value(name))}`);
}
