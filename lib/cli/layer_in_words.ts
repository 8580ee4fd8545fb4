import { isDeepStrictEqual } from "node:util";
import type { LayerDetails } from "../checkpoint/inspect/read_layers.js";
import { isPlain, weightFormat } from "../core/formats/weight_formats.js";
import { type Clamp, isClamped } from "../core/layer/activation.js";
import type { Gating, Normalization, Scoring } from "../core/layer/routing_rule.js";
import type { MoeLayerDescription } from "../layer/description/config.js";
import type { HashRouting } from "../layer/description/hash_routing.js";
import type { Hierarchy } from "../layer/description/hierarchy.js";
import { expertsWithWeights } from "../layer/description/identity_experts.js";
import { matrixRoles, presentRoles, routedFormats } from "../layer/description/storage.js";
import type { CapacityAmount, CapacityRule } from "../operators/routing/capacity.js";
import { plural } from "../terminal/format.js";

/** A layer's sizes and formula in words: lines for the experts, the shared expert if there is one, and the routing. */
export function layerInWords(description: MoeLayerDescription, details: LayerDetails = {}): string {
  const { hiddenSize, intermediateSize, topK, identityExperts, sharedExperts, expertChoice, tokenFormat } = description;
  const identity = identityExperts > 0 ? ` and ${identityExperts} that return their input` : "";
  const experts = `${plural(expertsWithWeights(description), "expert")} of ${expertInWords(description, details)}${identity}`;
  const lines = [
    `H ${hiddenSize}, I ${intermediateSize}, ${experts}${expertChoice ? "" : `, ${topK} per token`}`,
    ...latentInWords(description),
    ...(tokenFormat === "none" ? [] : [`tokens: rounded to ${tokenFormat} where weights are quantised`]),
    ...(sharedExperts > 0 ? [`shared expert: ${sharedExpertInWords(description, details)}`] : []),
    `routing: ${routingInWords(description, details).join(`;\n${" ".repeat("routing: ".length)}`)}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
}

/** The dtype that a layer computes in, and how its experts are stored if some of their matrices are quantised. */
export function storageInWords(description: MoeLayerDescription): string {
  const formats = routedFormats(description);
  const arePlain = formats.every((format) => isPlain(weightFormat(format)));
  return `${description.weightDType}${arePlain ? "" : `, experts in ${formats.join(" and ")}`}`;
}

/** How a layer chooses experts and weighs them, in clauses. */
export function routingInWords(description: MoeLayerDescription, details: LayerDetails): readonly string[] {
  const { numExperts, expertChoice, hierarchy, hashRouting, capacity, weightOn, perExpertScale } = description;
  const choice = expertChoice
    ? [expertChoiceInWords(description, expertChoice, details)]
    : hierarchy
      ? hierarchyInWords(hierarchy, numExperts, details)
      : hashRouting
        ? [tableInWords(description, hashRouting, details)]
        : choiceInWords(description, numExperts, "expert", details);
  const weights = `weights: ${weightsInWords(hierarchy?.experts ?? description)}`;
  const factors = `${hierarchy ? ", times the group's" : ""}${perExpertScale ? ", times the expert's scale" : ""}`;
  return [
    ...inputInWords(description),
    ...choice,
    `${weights}${factors}${weightOn === "input" ? ", multiplying the experts' input" : ""}`,
    ...(capacity ? [capacityInWords(capacity)] : []),
    ...noiseInWords(description),
  ];
}

function expertInWords(description: MoeLayerDescription, { expertBiases = false }: LayerDetails): string {
  const { activation, clamp, outputActivation } = description;
  const first = presentRoles(matrixRoles, description).slice(0, -1).join(", ");
  return [
    `${first} and down${expertBiases ? " with biases" : ""}`,
    ` (${activation}${isClamped(activation) ? `: ${clampInWords(clamp)}` : ""})`,
    outputActivation === "softmax" ? ", softmax of their output" : "",
  ].join("");
}

/** What the routed experts read, if that is not the tokens. */
function latentInWords({ latent }: MoeLayerDescription): readonly string[] {
  if (latent === undefined) return [];
  const norm = latent.norm ? `, after an RMSNorm (epsilon ${latent.norm.epsilon})` : "";
  return [`the experts read a projection of the tokens to L ${latent.size}; their sum is projected back${norm}`];
}

function clampInWords({ alpha, limit, upLimit, offset }: Clamp): string {
  const limits =
    upLimit === limit ? `limit ${limitInWords(limit)}` : `limits ${[limit, upLimit].map(limitInWords).join(" and ")}`;
  return `alpha ${alpha}, ${limits}, offset ${offset}`;
}

function limitInWords(limit: number): string {
  return Number.isFinite(limit) ? `${limit}` : "none";
}

const sharedGates: Readonly<Record<MoeLayerDescription["sharedGate"], string>> = {
  none: "",
  sigmoid: ", weighted by a sigmoid gate",
  softmax: ", weighed against the chosen experts by a softmax gate",
};

function sharedExpertInWords(description: MoeLayerDescription, { sharedWidth }: LayerDetails): string {
  const { sharedExperts, sharedGate, intermediateSize, clamp, sharedClamp } = description;
  const own = isDeepStrictEqual(clamp, sharedClamp) ? "" : ` (${clampInWords(sharedClamp)})`;
  return `I ${sharedWidth ?? sharedExperts * intermediateSize}${own}, for every token${sharedGates[sharedGate]}`;
}

const scoresOf: Readonly<Record<Scoring, string>> = {
  softmax: "softmax over all ",
  softmax_selected: "",
  sigmoid: "sigmoid of ",
  sqrt_softplus: "square root of softplus of ",
  none: "",
  sparsemixer: "sparsemixer over ",
};

function logitsInWords({ scoring }: Gating, logits: string, { routerBias }: LayerDetails): string {
  return `${scoresOf[scoring]}${logits}${routerBias ? " with bias" : ""}`;
}

/** How a rule chooses among `count` experts or groups. */
function choiceInWords(
  rule: Gating,
  count: number,
  noun: "expert" | "group",
  details: LayerDetails,
): readonly string[] {
  const { scoring, topK, selectionKey, numGroups, topGroups } = rule;
  const logits = logitsInWords(rule, plural(count, noun === "group" ? "group logit" : "logit"), details);
  if (scoring === "sparsemixer") return [`${logits}, ${topK} chosen one after another, each time the largest left`];
  const key = `${details.selectionBias ? "biased " : ""}${scoring === "none" ? "logit" : selectionKey}`;
  const chosen = `${topK === 1 ? `the ${noun}` : `the ${topK} ${noun}s`} with the largest ${key} chosen`;
  if (numGroups === 1) return [`${logits}, ${chosen}`];
  return [`${logits}, the ${topGroups} of ${numGroups} groups with ${largestGroup(rule, key)}`, `in them ${chosen}`];
}

function largestGroup({ groupScore, topK, topGroups }: Gating, key: string): string {
  if (groupScore === "max") return `the largest ${key}`;
  return `the largest sum of ${plural(groupScore === "top2_sum" ? 2 : topK / topGroups, key)}`;
}

function expertChoiceInWords(
  { numExperts, ...rule }: MoeLayerDescription,
  size: CapacityAmount,
  details: LayerDetails,
): string {
  const logits = logitsInWords(rule, plural(numExperts, "logit"), details);
  return `${logits}, each expert chooses ${amountInWords(size, "the tokens")}, those with the largest score`;
}

function tableInWords(
  { numExperts, ...rule }: MoeLayerDescription,
  { vocabularySize }: HashRouting,
  details: LayerDetails,
): string {
  const logits = logitsInWords(rule, plural(numExperts, "logit"), details);
  const experts = rule.topK === 1 ? "the expert" : `the ${rule.topK} experts`;
  return `${logits}, ${experts} that a table has for the token's id, one of ${vocabularySize}`;
}

/** How groups are chosen and weighted, then the experts in each. */
function hierarchyInWords(
  { numGroups, groups, experts }: Hierarchy,
  numExperts: number,
  details: LayerDetails,
): readonly string[] {
  const [first, ...others] = choiceInWords(experts, numExperts / numGroups, "expert", details);
  return [
    ...choiceInWords(groups, numGroups, "group", {}),
    `weights of groups: ${weightsInWords(groups)}`,
    `in each of them ${first}`,
    ...others,
  ];
}

function weightsInWords({ scoring, normalization, epsilon, power, jitter, scale }: Gating): string {
  const divisors: Readonly<Record<Normalization, string>> = {
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
  return `${scores}${divisors[normalization]}${scale === 1 ? "" : `, times ${scale}`}`;
}

/** What the router reads, if that is not what the experts get. */
function inputInWords({ separateRouterInput, routerNorm }: MoeLayerDescription): readonly string[] {
  if (!separateRouterInput && routerNorm === undefined) return [];
  const tokens = separateRouterInput ? "tokens of its own" : "the tokens";
  if (routerNorm === undefined) return [`the router reads ${tokens}`];
  const { epsilon, scale } = routerNorm;
  const times = scale === 1 ? "" : `, times ${Number(scale.toPrecision(6))}`;
  return [`the router reads the RMSNorm of ${tokens} (epsilon ${epsilon}${times})`];
}

/** What training adds. */
function noiseInWords({ noisy, routerJitter, hierarchy }: MoeLayerDescription): readonly string[] {
  return [
    ...(noisy
      ? [
          `in training the logits${hierarchy ? " of both gates" : ""} with normal noise, ` +
            `its deviation the softplus of one more projection plus ${noisy.epsilon}`,
        ]
      : []),
    ...(routerJitter ? [`in training the router's input times 1 - ${routerJitter} to 1 + ${routerJitter}`] : []),
  ];
}

const dropOrders: Readonly<Record<CapacityRule["drop"], string>> = {
  position: "of choice and token",
  prioritized: "of choice and the token's largest weight",
  probability: "of weight",
};

const divisors: Readonly<Record<Exclude<CapacityRule["divisor"], "none">, string>> = {
  kept: "divided by their sum",
  chosen: "divided by the sum of all that the token chose",
};

function capacityInWords(capacity: CapacityRule): string {
  const { per, drop, divisor, scale } = capacity;
  return [
    `each expert takes at most ${amountInWords(capacity, per === "sequence" ? "a sequence's choices" : "all choices")}`,
    `in order ${dropOrders[drop]}`,
    ...(divisor === "none" ? [] : [`kept weights ${divisors[divisor]}${scale === 1 ? "" : `, times ${scale}`}`]),
  ].join(", ");
}

function amountInWords(size: CapacityAmount, noun: string): string {
  const { tokens, factor, round, minimum = 0, multipleOf = 1 } = size;
  if (tokens !== undefined) return `${tokens} of ${noun}`;
  const limits = [
    ...(round === "down" ? ["rounded down"] : []),
    ...(minimum > 0 ? [`at least ${minimum}`] : []),
    ...(multipleOf > 1 ? [`in multiples of ${multipleOf}`] : []),
  ].join(", ");
  return `${factor} times an even share of ${noun}${limits === "" ? "" : ` (${limits})`}`;
}
