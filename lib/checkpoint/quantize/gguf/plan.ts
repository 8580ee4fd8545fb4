import { MoeError } from "../../../core/errors.js";
import type { WeightFormat } from "../../../core/formats/weight_format.js";
import { type Shape, shapeText } from "../../../core/tensors/shape.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import { blockTypeOf, formatsWithBlocks } from "../../gguf/blocks/convert.js";
import { maximumElements } from "../../gguf/metadata.js";
import { type GgufType, ggufTypes } from "../../gguf/types.js";
import type { MetadataInput, TensorInput } from "../../gguf/write/header.js";
import { mapWeights, nameOf, sizesIn } from "../../locate/locate_layer.js";
import { tensorLocator } from "../../locate/locate_tensors.js";
import { type LocatedWeight, placeOf } from "../../locate/located_weight.js";
import type { Model } from "../../model.js";
import type { SafetensorsDType } from "../../safetensors/dtype.js";
import { tensorPlace } from "../../safetensors/header.js";
import type { ShardedCheckpoint } from "../../safetensors/sharded_checkpoint.js";
import { checkFloats } from "../plan.js";
import { type HeadPart, type WrittenArchitecture, writtenArchitecture } from "./architectures.js";
import { checkFormula, metadataOf } from "./metadata.js";
import { readTokenizer } from "./tokenizer.js";

/** A weight to read, and where errors say that it is. */
export interface WeightPart {
  readonly source: LocatedWeight;
  readonly shape: Shape;
  readonly layer: number;
  /** Such as `experts[3].gate`. */
  readonly place: string;
  /** Such as `experts.gate`. */
  readonly role: string;
}

/** What a tensor's data are made from. */
export type Content =
  /** Matrices, quantised one after another. */
  | { readonly kind: "quantized"; readonly parts: readonly WeightPart[] }
  /** Weights as they are, but row by row. */
  | { readonly kind: "weights"; readonly parts: readonly WeightPart[] }
  /** A tensor as it is; `heads`: the two halves of that many heads' rows alternate. */
  | { readonly kind: "copy"; readonly name: string; readonly heads?: number }
  /** Some rows of each of that many heads. */
  | { readonly kind: "heads"; readonly name: string; readonly heads: number; readonly part: HeadPart }
  /** The scale of each matrix's scales, of the quantised tensor before it. */
  | { readonly kind: "scales" };

/** A tensor to write. Floats whose type is F32 are converted. */
export interface PlannedTensor extends TensorInput {
  readonly content: Content;
}

export interface GgufPlan {
  readonly metadata: ReadonlyMap<string, MetadataInput>;
  readonly tensors: readonly PlannedTensor[];
  /** Bytes of the model's tensors. */
  readonly bytesBefore: number;
  /** Empty if there is one. */
  readonly whyNoTokenizer: string;
}

/** The type of a format's blocks. @throws UNSUPPORTED_DTYPE if GGUF has none. */
export function ggufTypeOfFormat(format: WeightFormat): GgufType {
  const type = blockTypeOf(format);
  if (type !== undefined) return type;
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `format: GGUF has no blocks of ${format.name}: expected ${formatsWithBlocks.join(", ")}; for ${format.name} write a model ` +
      "directory: a name without .gguf",
  );
}

/**
 * The tensors and metadata of a model directory as a GGUF file.
 * @param layers those whose experts are quantised.
 * @throws UNSUPPORTED_OPERATION for a family or a formula that is not written, and for tensors without a known name;
 * UNSUPPORTED_DTYPE for a type whose scales llama.cpp ignores; BAD_CHECKPOINT for missing tensors and fields.
 */
export async function planGguf(
  model: Model,
  checkpoint: ShardedCheckpoint,
  type: GgufType,
  layers: readonly number[],
  name: string,
): Promise<GgufPlan> {
  const architecture = writtenArchitecture(model.family.modelType);
  if (type === "NVFP4" && !architecture.scalesExperts) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `format: llama.cpp ignores the scale of each expert that nvfp4 needs in GGUF files of ${architecture.name}; expected ` +
        "another format, such as mxfp4",
    );
  }
  checkDense(model, architecture);
  const vocabulary = model.fields.integer("vocab_size", undefined, { maximum: maximumElements });
  const tokenizer = await readTokenizer(checkpoint.directory, vocabulary);
  const metadata = metadataOf(model, architecture, type, name, tokenizer.metadata);
  const planner = new Planner(model, checkpoint, architecture, type);
  await planner.addModel();
  for (let layer = 0; layer < model.layerCount; layer++) {
    const hasExperts = model.hasExperts(layer);
    if (hasExperts) checkFormula(model, architecture, metadata, layer);
    await planner.addLayer(layer, hasExperts, layers.includes(layer));
  }
  const bytesBefore = await planner.finish();
  return { metadata, tensors: planner.tensors, bytesBefore, whyNoTokenizer: tokenizer.whyNone };
}

/** Only the first layers can be dense. */
function checkDense(model: Model, { name, dense }: WrittenArchitecture): void {
  const [first] = dense === undefined ? [0] : model.layersWithExperts();
  const layers = Array.from({ length: model.layerCount }, (_, layer) => layer);
  const layer = layers.find((layer) => layer >= (first ?? 0) && !model.hasExperts(layer));
  if (layer === undefined) return;
  const where = dense === undefined ? "in every layer" : "in every layer after the first that has them";
  const problem = `expected experts ${where}, as ${name} has them, got a dense layer ${layer}`;
  throw new MoeError("UNSUPPORTED_OPERATION", `${model.fields.path}: ${problem}`);
}

/** What the tensors of a layer's MoE block are called. */
const roleNames: Readonly<Record<string, string>> = {
  router: "ffn_gate_inp.weight",
  routerBias: "ffn_gate_inp.bias",
  selectionBias: "exp_probs_b.bias",
  "experts.gate": "ffn_gate_exps.weight",
  "experts.up": "ffn_up_exps.weight",
  "experts.down": "ffn_down_exps.weight",
  "experts.gateBias": "ffn_gate_exps.bias",
  "experts.upBias": "ffn_up_exps.bias",
  "experts.downBias": "ffn_down_exps.bias",
  sharedGate: "ffn_gate_inp_shexp.weight",
  "shared.gate": "ffn_gate_shexp.weight",
  "shared.up": "ffn_up_shexp.weight",
  "shared.down": "ffn_down_shexp.weight",
};

const floatTypes: Partial<Record<SafetensorsDType, GgufType>> = { F32: "F32", F16: "F16", BF16: "BF16" };

/** Buffers that can be computed, which models may have beside their weights. */
const isComputed = (name: string) => name.endsWith(".rotary_emb.inv_freq");

/** Collects the tensors of a file, and notes which of the model's it has taken. */
class Planner {
  readonly tensors: PlannedTensor[] = [];
  readonly #model: Model;
  readonly #checkpoint: ShardedCheckpoint;
  readonly #architecture: WrittenArchitecture;
  readonly #type: GgufType;
  readonly #taken = new Set<string>();

  constructor(model: Model, checkpoint: ShardedCheckpoint, architecture: WrittenArchitecture, type: GgufType) {
    this.#model = model;
    this.#checkpoint = checkpoint;
    this.#architecture = architecture;
    this.#type = type;
  }

  /** Adds what belongs to no layer. */
  async addModel(): Promise<void> {
    const { fields } = this.#model;
    const tied = fields.boolean("tie_word_embeddings", false);
    if (tied && !this.#architecture.tied) {
      fields.require("tie_word_embeddings", false);
    }
    await this.#copy("model.embed_tokens.weight", "token_embd.weight");
    await this.#copy("model.norm.weight", "output_norm.weight");
    if (!tied || this.#checkpoint.has("lm_head.weight")) await this.#copy("lm_head.weight", "output.weight");
  }

  async addLayer(layer: number, hasExperts: boolean, quantized: boolean): Promise<void> {
    const { optional = [], alternatesHeads, dense } = this.#architecture;
    const { fields } = this.#model;
    const heads = fields.integer("num_attention_heads", undefined);
    const headsOf = { q: heads, k: fields.integer("num_key_value_heads", heads) };
    const tensors = { ...this.#architecture.tensors(fields), ...(!hasExperts && dense) };
    for (const [name, target] of Object.entries(tensors)) {
      const source = `model.layers.${layer}.${name}`;
      if (optional.includes(name) && !this.#checkpoint.has(source)) continue;
      const [, which] = /^self_attn\.([qk])_proj\./.exec(name) ?? [];
      const alternating = alternatesHeads && which !== undefined ? headsOf[which as "q" | "k"] : undefined;
      await this.#copy(source, `blk.${layer}.${target}`, alternating);
    }
    for (const [name, parts] of Object.entries(this.#architecture.parts?.(fields) ?? {})) {
      await this.#addParts(`model.layers.${layer}.${name}`, `blk.${layer}`, parts, heads);
    }
    if (hasExperts) await this.#addBlock(layer, quantized);
  }

  /** Returns the bytes of all tensors. @throws UNSUPPORTED_OPERATION if the model has tensors that were not taken. */
  async finish(): Promise<number> {
    let bytes = 0;
    for (const name of this.#checkpoint.shards.keys()) {
      const file = await this.#checkpoint.fileOf(name);
      bytes += file.info(name).byteLength;
      if (this.#taken.has(name) || isComputed(name) || this.#isBeyondLayers(name)) continue;
      throw new MoeError(
        "UNSUPPORTED_OPERATION",
        `${tensorPlace(file.path, name)}: expected a tensor that has a name in GGUF files of ${this.#architecture.name}`,
      );
    }
    return bytes;
  }

  /** Whether a tensor is of layers that predict further tokens, which the configuration does not count. */
  #isBeyondLayers(name: string): boolean {
    const [, layer] = /^model\.layers\.(\d+)\./.exec(name) ?? [];
    return this.#architecture.hasPredictions === true && Number(layer) >= this.#model.layerCount;
  }

  /** Adds the parts of a tensor whose rows are those of heads. */
  async #addParts(name: string, block: string, parts: readonly HeadPart[], heads: number): Promise<void> {
    const file = await this.#checkpoint.fileOf(name);
    const { shape } = file.info(name);
    const rows = heads * parts.reduce((sum, part) => sum + part.rows, 0);
    if (shape.length !== 2 || shape[0] !== rows) {
      const problem = `expected ${rows} rows, those of ${heads} heads, got shape ${shapeText(shape)}`;
      throw badCheckpoint(tensorPlace(file.path, name), problem);
    }
    const [, columns] = shape as [number, number];
    const type = await this.#floatType(name);
    this.#taken.add(name);
    for (const part of parts) {
      const matrix = part.turned ? [columns, part.rows] : [part.rows, columns];
      const content = { kind: "heads", name, heads, part } as const;
      this.tensors.push({ name: `${block}.${part.target}`, type, shape: [heads, ...matrix], content });
    }
  }

  /** @throws BAD_CHECKPOINT unless a tensor has floats. */
  async #floatType(name: string): Promise<GgufType> {
    const file = await this.#checkpoint.fileOf(name);
    const { dtype } = file.info(name);
    const stored = floatTypes[dtype];
    if (stored !== undefined) return stored;
    throw badCheckpoint(tensorPlace(file.path, name), `expected dtype F32, F16 or BF16, got ${dtype}`);
  }

  async #copy(name: string, target: string, heads?: number): Promise<void> {
    const file = await this.#checkpoint.fileOf(name);
    const { shape } = file.info(name);
    const stored = await this.#floatType(name);
    if (shape.length !== 1 && shape.length !== 2) {
      throw badCheckpoint(tensorPlace(file.path, name), `expected a vector or a matrix, got shape ${shapeText(shape)}`);
    }
    if (heads !== undefined && ((shape[0] as number) / heads) % 2 !== 0) {
      const problem = `expected ${heads} heads of an even number of rows, got shape ${shapeText(shape)}`;
      throw badCheckpoint(tensorPlace(file.path, name), problem);
    }
    this.#taken.add(name);
    const content = { kind: "copy", name, ...(heads !== undefined && { heads }) } as const;
    this.tensors.push({ name: target, type: shape.length === 1 ? "F32" : stored, shape, content });
  }

  /** Adds the MoE block; matrices of experts are stacked. */
  async #addBlock(layer: number, quantized: boolean): Promise<void> {
    const roles = new Map<string, WeightPart[]>();
    const config = this.#model.config(layer);
    const has = (name: string) => this.#checkpoint.has(name);
    const tensors = this.#model.tensors(layer, has);
    const locate = tensorLocator({
      origin: sizesIn(this.#model.fields.path),
      quantization: this.#model.quantization,
      tensors,
      has,
      fileOf: (name) => this.#checkpoint.fileOf(name),
    });
    await mapWeights({ config, tensors }, async (wanted) => {
      const { weight, shape, expert, role } = wanted;
      const source = await locate(wanted);
      checkFloats(source);
      const [set, kind] = role.split(".") as [string, string?];
      const place = set === "experts" ? `experts[${expert}].${kind}` : role;
      const parts = roles.get(role) ?? [];
      roles.set(role, parts);
      parts.push({ source, shape, layer, place, role });
      this.#taken.add(nameOf(weight, expert));
    });
    for (const [role, parts] of roles) this.#addWeights(`blk.${layer}`, role, parts, quantized);
  }

  #addWeights(block: string, role: string, parts: readonly WeightPart[], quantized: boolean): void {
    const name = roleNames[role];
    const [{ source, shape }] = parts as readonly [WeightPart];
    if (name === undefined) {
      const problem = `expected a weight that has a name in GGUF files of ${this.#architecture.name}, got the ${role}`;
      throw new MoeError("UNSUPPORTED_OPERATION", `${placeOf(source)}: ${problem}`);
    }
    const target = `${block}.${name}`;
    const stacked = role.startsWith("experts.");
    const lead = stacked ? [parts.length] : [];
    const isMatrix = role.includes(".") && shape.length === 2;
    if (isMatrix && quantized) {
      for (const part of parts) checkColumns(part, this.#type);
      this.tensors.push({
        name: target,
        type: this.#type,
        shape: [...lead, ...shape],
        content: { kind: "quantized", parts },
      });
      if (this.#type !== "NVFP4") return;
      const scales = { name: target.replace(/weight$/, "scale"), type: "F32", shape: [parts.length] } as const;
      this.tensors.push({ ...scales, content: { kind: "scales" } });
      return;
    }
    // A gate of one row is a vector there.
    const own = role === "sharedGate" ? shape.slice(1) : shape;
    const uniform = parts.every((part) => part.source.format === source.format);
    const type = isMatrix && uniform ? (source.format.toUpperCase() as GgufType) : "F32";
    this.tensors.push({ name: target, type, shape: [...lead, ...own], content: { kind: "weights", parts } });
  }
}

function checkColumns({ source, shape }: WeightPart, type: GgufType): void {
  const { elements } = ggufTypes[type];
  const columns = shape.at(-1) as number;
  if (columns % elements === 0) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${placeOf(source)}: expected columns in whole blocks of ${elements} for ${type}, got ${columns}` +
      (columns % 32 === 0 ? "; blocks of q8_0, q5_0, q4_0, iq4_nl and mxfp4 have 32" : ""),
  );
}
