import { isGated } from "../backend.js";
import type { MoeLayerDescription } from "../layer/config.js";
import type { CapacityRule, CapacitySize } from "../operators/capacity.js";
import { plural } from "./ui/format.js";

/** What a description leaves open, where it is known. */
export interface LayerDetails {
  readonly routerBias?: boolean;
  readonly selectionBias?: boolean;
  readonly expertBiases?: boolean;
  /** Width of the shared expert, which a description rounds up to a multiple of I. */
  readonly sharedWidth?: number;
}

/** A layer's sizes and formula in words: a line for the experts, one for the shared expert if any, one for the routing. */
export function layerInWords(description: MoeLayerDescription, details: LayerDetails = {}): string {
  const { hiddenSize, intermediateSize, numExperts, topK, sharedExperts, expertChoice } = description;
  const experts = `${plural(numExperts, "expert")} of ${expertInWords(description, details)}`;
  const lines = [
    `H ${hiddenSize}, I ${intermediateSize}, ${experts}${expertChoice ? "" : `, ${topK} per token`}`,
    ...(sharedExperts > 0 ? [`shared expert: ${sharedExpertInWords(description, details)}`] : []),
    `routing: ${routingClauses(description, details).join(`;\n${" ".repeat("routing: ".length)}`)}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
}

/** How a layer chooses experts and weighs them. */
export function routingInWords(description: MoeLayerDescription, details: LayerDetails = {}): string {
  return routingClauses(description, details).join("; ");
}

function routingClauses(description: MoeLayerDescription, details: LayerDetails): readonly string[] {
  const { capacity } = description;
  return [
    ...choiceInWords(description, details),
    weightsInWords(description),
    ...(capacity ? [capacityInWords(capacity)] : []),
  ];
}

function expertInWords(description: MoeLayerDescription, { expertBiases = false }: LayerDetails): string {
  const { activation, clamp, factor, outputActivation } = description;
  const first = [...(isGated(activation) ? ["gate"] : []), "up", ...(factor ? ["factor"] : [])].join(", ");
  const numbers = `: alpha ${clamp.alpha}, limit ${clamp.limit}, offset ${clamp.offset}`;
  return [
    `${first} and down${expertBiases ? " with biases" : ""}`,
    ` (${activation}${activation === "swiglu_clamped" ? numbers : ""})`,
    outputActivation === "softmax" ? ", softmax of their output" : "",
  ].join("");
}

const sharedGates: Readonly<Record<MoeLayerDescription["sharedGate"], string>> = {
  none: "",
  sigmoid: ", weighted by a sigmoid gate",
  softmax: ", weighed against the chosen experts by a softmax gate",
};

function sharedExpertInWords(description: MoeLayerDescription, { sharedWidth }: LayerDetails): string {
  const { sharedExperts, sharedGate, intermediateSize } = description;
  return `I ${sharedWidth ?? sharedExperts * intermediateSize}, for every token${sharedGates[sharedGate]}`;
}

const scoresOf: Readonly<Record<MoeLayerDescription["scoring"], string>> = {
  softmax: "softmax over all ",
  softmax_selected: "",
  sigmoid: "sigmoid of ",
  sqrt_softplus: "square root of softplus of ",
  none: "",
  sparsemixer: "sparsemixer over ",
};

function choiceInWords(
  description: MoeLayerDescription,
  { routerBias, selectionBias }: LayerDetails,
): readonly string[] {
  const { scoring, topK, numExperts, selectionKey, numGroups, topGroups, expertChoice } = description;
  const logits = `${scoresOf[scoring]}${plural(numExperts, "logit")}${routerBias ? " with bias" : ""}`;
  if (scoring === "sparsemixer") return [`${logits}, ${topK} chosen one after another, each time the largest left`];
  if (expertChoice !== undefined) {
    return [
      `${logits}, each expert chooses ${amountInWords(expertChoice, "the tokens")}, those with the largest score`,
    ];
  }
  const key = `${selectionBias ? "biased " : ""}${scoring === "none" ? "logit" : selectionKey}`;
  const experts = `${topK === 1 ? "the expert" : `the ${topK} experts`} with the largest ${key} chosen`;
  if (numGroups === 1) return [`${logits}, ${experts}`];
  return [
    `${logits}, the ${topGroups} of ${numGroups} groups with ${largestGroup(description, key)}`,
    `in them ${experts}`,
  ];
}

function largestGroup({ groupScore, topK, topGroups }: MoeLayerDescription, key: string): string {
  if (groupScore === "max") return `the largest ${key}`;
  return `the largest sum of ${plural(groupScore === "top2_sum" ? 2 : topK / topGroups, key)}`;
}

function weightsInWords(description: MoeLayerDescription): string {
  const { scoring, normalization, epsilon, power, jitter, scale, weightOn } = description;
  const divisors: Readonly<Record<MoeLayerDescription["normalization"], string>> = {
    none: "",
    sum: ", divided by their sum",
    sum_plus_epsilon: `, divided by their sum plus ${epsilon}`,
    clamped_sum: `, divided by their sum or ${epsilon} if that is larger`,
    lp: `, divided by their L${power} norm`,
  };
  const scores = {
    softmax_selected: "softmax over the chosen logits",
    none: "their logits",
    sparsemixer: `each a softmax over the logits left that are within a relative ${2 * jitter} of it`,
    softmax: "their scores",
    sigmoid: "their scores",
    sqrt_softplus: "their scores",
  }[scoring];
  const factor = scale === 1 ? "" : `, times ${scale}`;
  const place = weightOn === "input" ? ", multiplying the experts' input" : "";
  return `weights: ${scores}${divisors[normalization]}${factor}${place}`;
}

const dropOrders: Readonly<Record<CapacityRule["drop"], string>> = {
  position: "of choice and token",
  prioritized: "of choice and the token's largest weight",
  probability: "of weight",
};

function capacityInWords(capacity: CapacityRule): string {
  const { per, drop, renormalize } = capacity;
  return [
    `each expert takes at most ${amountInWords(capacity, per === "sequence" ? "a sequence's choices" : "all choices")}`,
    `in order ${dropOrders[drop]}`,
    ...(renormalize ? ["kept weights divided by their sum"] : []),
  ].join(", ");
}

function amountInWords(size: CapacitySize, noun: string): string {
  const { tokens, factor, round, minimum = 0, multipleOf = 1 } = size;
  if (tokens !== undefined) return `${tokens} of ${noun}`;
  const limits = [
    ...(round === "down" ? ["rounded down"] : []),
    ...(minimum > 0 ? [`at least ${minimum}`] : []),
    ...(multipleOf > 1 ? [`in multiples of ${multipleOf}`] : []),
  ].join(", ");
  return `${factor} times an even share of ${noun}${limits === "" ? "" : ` (${limits})`}`;
}
