import { describe, MoeError } from "../../../core/errors.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import type { ConfigFields } from "../../config_fields.js";
import type { MetadataInput } from "../../gguf/write/header.js";

type Keys = Readonly<Record<string, MetadataInput>>;

/**
 * How a family's model directory becomes a GGUF file: names and metadata of llama.cpp (docs, gguf-py and src/models). A file is of
 * the whole model, so this takes more than reading the experts of one: families of which only these are known are not here.
 */
export interface WrittenArchitecture {
  /** `general.architecture`; stands before the keys below. */
  readonly name: string;
  /** Metadata besides those that all have. */
  keys(fields: ConfigFields): Keys;
  /** What the tensors of a layer besides its MoE block are called: in the model directory, and in the file. */
  readonly tensors: Readonly<Record<string, string>>;
  /** Of these, those that a model may lack. */
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

const architectures: ReadonlyMap<string, WrittenArchitecture> = new Map([
  [
    "mixtral",
    {
      name: "llama",
      keys: (fields) => {
        refuseField(fields, "sliding_window");
        return { "rope.dimension_count": headSize(fields) };
      },
      tensors: block,
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
      tensors: { ...block, ...biases },
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
      tensors: { ...block, ...headNorms },
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
      tensors: { ...block, ...headNorms },
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
      tensors: block,
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
      tensors: {
        ...attention,
        ...biases,
        "self_attn.o_proj.bias": "attn_output.bias",
        "self_attn.sinks": "attn_sinks.weight",
        "post_attention_layernorm.weight": "post_attention_norm.weight",
      },
      slidingEvenLayers: true,
    },
  ],
] satisfies [string, WrittenArchitecture][]);

/** The architecture of a family. @throws UNSUPPORTED_OPERATION if no GGUF files of it are written. */
export function writtenArchitecture(modelType: string): WrittenArchitecture {
  const found = architectures.get(modelType);
  if (found !== undefined) return found;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `GGUF files are written of the families ${[...architectures.keys()].join(", ")}, got ${modelType}; write a model ` +
      "directory instead, in a format of compressed-tensors",
  );
}

/**
 * The architecture's metadata, without its name before them.
 * @throws BAD_CHECKPOINT for fields that are missing or mean what no metadata say.
 */
export function architectureKeys(architecture: WrittenArchitecture, fields: ConfigFields, layers: number): Keys {
  checkLayerTypes(fields, architecture.slidingEvenLayers === true);
  fields.require("partial_rotary_factor", 1);
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
    ...ropeKeys(fields),
    ...architecture.keys(fields),
  };
}

/** Fields of `rope_scaling`, or of Transformers 5's `rope_parameters`, that are known. */
const ropeFields = [
  ...["type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings"],
  ...["beta_fast", "beta_slow", "truncate"],
];

function ropeKeys(fields: ConfigFields): Keys {
  const parameters = fields.section("rope_parameters");
  const scaling = fields.section("rope_scaling") ?? parameters;
  const theta = (parameters?.has("rope_theta") ? parameters : fields).number("rope_theta", undefined);
  const base = { "rope.freq_base": f32(theta) };
  if (scaling === undefined) return base;
  const type = scaling.value("rope_type") ?? scaling.value("type") ?? "default";
  const unknown = Object.keys(scaling.all).find((name) => !ropeFields.includes(name));
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
  };
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

function refuseField(fields: ConfigFields, name: string): void {
  if (!fields.has(name)) return;
  throw badCheckpoint(fields.path, `${name}: expected null, got ${describe(fields.value(name))}`);
}
