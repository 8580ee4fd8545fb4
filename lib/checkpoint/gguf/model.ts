import { isGated } from "../../core/layer/activation.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { ConfigFields } from "../config_fields.js";
import { maximumLayers } from "../families/family.js";
import { withAdjugates } from "../families/grove_moe.js";
import { inklingVectors } from "../families/inkling.js";
import { checkLayer, layersWithExperts } from "../layers_with_experts.js";
import { type LayerTensors, type NamedWeight, nameOf } from "../locate/locate_layer.js";
import type { Architecture, FamilyFields } from "./architecture.js";
import { architectureOf } from "./architectures.js";
import { GgufFields } from "./fields.js";
import type { SplitGguf } from "./split.js";
import { refuseUnreadLimits } from "./stated_formula.js";

/** What the metadata and the names of a GGUF model say: `general.architecture` names the family. */
export class GgufModel {
  readonly path: string;
  readonly layerCount: number;
  readonly #files: SplitGguf;
  readonly #read: (layer: number) => FamilyFields;
  readonly #denseBlock: Architecture["denseBlock"];
  readonly #imageBias: boolean;

  /** @throws BAD_CHECKPOINT if the architecture is unknown or a key is missing or makes no sense. */
  constructor(files: SplitGguf) {
    const name = files.metadata.get("general.architecture");
    const architecture = architectureOf(files.path, name);
    const fields = new GgufFields(files.path, name as string, files.metadata);
    this.path = files.path;
    this.layerCount = fields.integer("block_count");
    if (this.layerCount > maximumLayers) throw fields.error("block_count", `at most ${maximumLayers}`, this.layerCount);
    this.#files = files;
    this.#denseBlock = architecture.denseBlock;
    this.#imageBias = architecture.imageBias ?? false;
    this.#read = (layer) => {
      const own = new GgufFields(files.path, name as string, files.metadata);
      const block = `blk.${layer}`;
      const table = tableName(block);
      const read = architecture.read(own, layer, {
        hasBias: biasName(block, (name) => files.has(name)) !== undefined,
        tableRows: files.has(table) ? files.fileOf(table).info(table).shape[0] : undefined,
        hasLatentNorm: files.has(`${block}.ffn_routed_norm.weight`),
      });
      refuseUnreadLimits(own, layer);
      return read;
    };
  }

  /** Checks and returns a layer number. @throws INVALID_ARGUMENT if the model lacks the layer or it is dense. */
  checkLayer(layer: unknown, name?: string): number {
    return checkLayer(this, layer, name);
  }

  layersWithExperts(): number[] {
    return layersWithExperts(this);
  }

  /** A layer has experts if it has a router. */
  hasExperts(layer: number): boolean {
    return this.#files.has(`blk.${layer}.ffn_gate_inp.weight`);
  }

  /** The family's `model_type`, or the architecture's name. */
  family(layer: number): string {
    return this.#read(layer).family.modelType;
  }

  /**
   * The sizes and formula of a layer with experts.
   * @throws BAD_CHECKPOINT, also if the file has tensors of the layer that the formula does not know.
   */
  config(layer: number): MoeLayerConfig {
    return this.#configOf(layer, this.#read(layer));
  }

  #configOf(layer: number, read: FamilyFields): MoeLayerConfig {
    const config = read.family.config(new ConfigFields(this.path, read.fields), layer);
    this.#checkNames(layer, config, read);
    const shared = `blk.${layer}.ffn_up_shexp.weight`;
    const hasShared = config.sharedExpert !== undefined || read.weighedShared !== undefined;
    if (!hasShared && this.#files.has(shared) && this.#denseBlock !== "ffn_up_shexp") {
      throw badCheckpoint(this.path, `expected no shared expert according to the metadata, got a tensor "${shared}"`);
    }
    return config;
  }

  /** A layer computes something else with tensors that are not known here. */
  #checkNames(
    layer: number,
    { sharedExpert, routerNorm, latent, hashRouting }: MoeLayerConfig,
    { adjugate, weighedShared }: FamilyFields,
  ): void {
    const block = `blk.${layer}.`;
    const known = [
      ...knownNames,
      ...(sharedExpert?.gate ? [/^ffn_gate_inp_shexp\.weight$/] : []),
      ...(routerNorm ? [/^ffn_gate_inp\.scale$/] : []),
      ...(latent ? [/^ffn_(latent|routed)_(down|up)\.(weight|scale|input_scale)$/] : []),
      ...(latent?.norm ? [/^ffn_routed_norm\.weight$/] : []),
      ...(hashRouting ? [/^ffn_gate_tid2eid\.weight$/] : []),
      ...(adjugate ? [/^ffn_(gate|up|down)_chexps\.weight$/] : []),
      ...(weighedShared ? [/^ffn_gscale\.weight$/] : []),
      ...(this.#imageBias ? [/^exp_probs_b_vl(\.bias)?$/] : []),
      ...(this.#denseBlock === "ffn_up" ? [namesOfDenseBlock] : []),
    ];
    for (const name of this.#files.names) {
      if (!name.startsWith(block)) continue;
      const own = name.slice(block.length);
      if (!ofFeedForward.test(own) || known.some((pattern) => pattern.test(own))) continue;
      throw badCheckpoint(this.path, `expected no other tensors in a layer with experts, got ${JSON.stringify(name)}`);
    }
  }

  /** The names of a layer's tensors; if some are missing, the usual names, for the errors to mention. */
  tensors(layer: number): LayerTensors {
    const has = (name: string) => this.#files.has(name);
    const block = `blk.${layer}`;
    const optional = (role: string, name: string) => (has(name) ? { [role]: { name } } : {});
    const read = this.#read(layer);
    const config = this.#configOf(layer, read);
    const { sharedExpert, activation = "swiglu", routerNorm, perExpertScale, latent, hashRouting } = config;
    const { sharedFactor, alwaysBiased = false, weighedShared, adjugate } = read;
    const bias = biasName(block, has) ?? (alwaysBiased && !hashRouting ? `${block}.exp_probs_b.bias` : undefined);
    const gated = isGated(activation);
    const routed = gated ? experts(block, has) : withoutGate(experts(block, has));
    const stack = (name: string) => ({ name: `${block}.${name}.weight`, stacked: "dim0" }) as const;
    const matrices = (suffix: string) => {
      return { gate: stack(`ffn_gate_${suffix}`), up: stack(`ffn_up_${suffix}`), down: stack(`ffn_down_${suffix}`) };
    };
    const projection = has(`${block}.ffn_routed_down.weight`) ? "ffn_routed" : "ffn_latent";
    return {
      router: { name: `${block}.ffn_gate_inp.weight` },
      ...optional("routerBias", `${block}.ffn_gate_inp.bias`),
      ...(bias !== undefined && { selectionBias: { name: bias } }),
      ...(routerNorm && { routerNormWeight: { name: `${block}.ffn_gate_inp.scale` } }),
      ...(perExpertScale && { expertScale: { name: `${block}.ffn_down_exps.scale` } }),
      ...(hashRouting && { expertTable: { name: tableName(block) } }),
      ...(weighedShared !== undefined && {
        lastExperts: { count: weighedShared, weights: matrices("shexp") },
        ...inklingVectors(
          { name: bias as string },
          { name: `${block}.ffn_gscale.weight` },
          config.numExperts - weighedShared,
        ),
      }),
      experts: adjugate ? withAdjugates(routed, matrices("chexps"), adjugate) : routed,
      ...(sharedExpert && {
        shared: {
          ...(gated && { gate: { name: `${block}.ffn_gate_shexp.weight` } }),
          up: { name: `${block}.ffn_up_shexp.weight` },
          down: { name: `${block}.ffn_down_shexp.weight`, ...(sharedFactor !== undefined && { factor: sharedFactor }) },
        },
      }),
      ...(sharedExpert?.gate && { sharedGate: { name: `${block}.ffn_gate_inp_shexp.weight` } }),
      ...(latent && {
        latentDown: { name: `${block}.${projection}_down.weight` },
        latentUp: { name: `${block}.${projection}_up.weight` },
        ...(latent.norm && { latentNormWeight: { name: `${block}.${projection}_norm.weight` } }),
      }),
    };
  }
}

/** Tensors of a feed-forward block, and those of them that an MoE layer consists of, or that make its inputs and norm its outputs. */
const ofFeedForward = /^(ffn|exp)_/;
const knownNames = [
  /^ffn_gate_inp\.(weight|bias)$/,
  /^exp_probs_b(\.bias)?$/,
  /^ffn_(gate|up|gate_up|down)_exps\.(weight|bias|scale|input_scale)$/,
  /^ffn_(gate|up|down)\.\d+\.weight$/,
  /^ffn_(gate|up|down)_shexp\.(weight|scale|input_scale)$/,
  /^ffn_(post_)?norm\.(weight|bias)$/,
  /^ffn_(norm_exps|norm_gate_[ab]|res_score)\.weight$/,
];

const namesOfDenseBlock = /^ffn_(gate|up|down)\.(weight|bias|scale|input_scale)$/;

/** The bias for the choice of experts, which some architectures have without `.bias`. */
function biasName(block: string, has: (name: string) => boolean): string | undefined {
  return [`${block}.exp_probs_b.bias`, `${block}.exp_probs_b`].find(has);
}

/** The experts of each token id, for hash routing. */
function tableName(block: string): string {
  return `${block}.ffn_gate_tid2eid.weight`;
}

function withoutGate({ gate: _, gateBias: __, ...others }: ExpertWeights<NamedWeight, NamedWeight>) {
  return others;
}

/** The experts: stacked, gate and up apart or in one tensor, or as in the first files of Mixtral a tensor for each. */
function experts(block: string, has: (name: string) => boolean): ExpertWeights<NamedWeight, NamedWeight> {
  const stacked = (matrix: string, kind = "weight") => {
    return { name: `${block}.ffn_${matrix}_exps.${kind}`, stacked: "dim0" } as const;
  };
  const whole = {
    gate: stacked("gate"),
    up: stacked("up"),
    down: stacked("down"),
    ...(has(stacked("gate", "bias").name) && { gateBias: stacked("gate", "bias") }),
    ...(has(stacked("up", "bias").name) && { upBias: stacked("up", "bias") }),
    ...(has(stacked("down", "bias").name) && { downBias: stacked("down", "bias") }),
  };
  const both = stacked("gate_up");
  if (has(both.name)) {
    const bias = stacked("gate_up", "bias");
    return {
      ...whole,
      gate: { ...both, part: "first_half" },
      up: { ...both, part: "second_half" },
      ...(has(bias.name) && {
        gateBias: { ...bias, part: "first_half" },
        upBias: { ...bias, part: "second_half" },
      }),
    };
  }
  const single = (matrix: string) => ({ name: `${block}.ffn_${matrix}.{e}.weight` });
  const isSingle = !has(whole.up.name) && has(nameOf(single("up"), 0));
  return isSingle ? { gate: single("gate"), up: single("up"), down: single("down") } : whole;
}
