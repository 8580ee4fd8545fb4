import type { TensorHandle } from "../core/backend.js";
import { cannotCombine, invalidArgument, requires } from "../core/errors.js";
import { type Fields, object, optional, type Read } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { tensor } from "../core/tensor_option.js";
import { checkTensor } from "../operators/check.js";
import { jitterEpsilon } from "../operators/noise/jitter.js";
import { type NoisyLogits, noiseEpsilon, noisyLogits } from "../operators/noise/noisy_logits.js";
import { type Seed, seed } from "../operators/noise/random.js";
import type { MoeLayer } from "./layer.js";
import type { Tokens } from "./tokens.js";

/** How a layer's router is disturbed in training, so that tokens explore experts. At most one of the two. */
export interface RouterNoiseConfig {
  /**
   * Noisy top-k gating (arXiv 1701.06538): logits get normal noise of deviation softplus(noiseRouter x) + epsilon (default
   * 0.01), see {@link noisyLogits}; in a hierarchy those of both gates.
   */
  noisy?: { epsilon?: number };
  /** The router's input, but not the experts', is multiplied by 1 - routerJitter .. 1 + routerJitter, see {@link jitter}. */
  routerJitter?: number;
}

/** A layer's gates: that of the experts, and in a hierarchy that of their groups. */
export type GateName = "experts" | "groups";

/** A checked {@link RouterNoiseConfig}. */
export interface RouterNoise {
  readonly noisy: { readonly epsilon: number } | undefined;
  readonly routerJitter: number | undefined;
}

/**
 * What one call's noise comes from: a seed of its own, or for `noisy` the noise itself, [T, E] f32 and with a hierarchy
 * [T, G] for the groups. A seed's noise for the groups follows that for the experts: it begins at number T * E.
 */
export type Training =
  | { seed: Seed; noise?: undefined; groupNoise?: undefined }
  | { noise: Tensor<"f32">; groupNoise?: Tensor<"f32">; seed?: undefined };

/** A gate's noisy logits, and without the noise: what {@link expertLoad} takes. */
export interface GateLogits extends NoisyLogits {
  /** [T, E] f32, of the groups' gate [T, G]. */
  readonly clean: Tensor<"f32">;
}

/** The logits that a layer routes by in training. */
export interface TrainingLogits extends GateLogits {
  /** Those of the groups, where the layer has a hierarchy. */
  readonly groups?: GateLogits;
}

export const routerNoiseFields = {
  noisy: optional(object({ epsilon: noiseEpsilon }, "{ epsilon: 0.01 }")),
  routerJitter: optional(jitterEpsilon),
} satisfies Fields<RouterNoiseConfig>;

export const trainingOption = object(
  {
    seed: optional(seed),
    noise: optional(tensor<"f32">()),
    groupNoise: optional(tensor<"f32">()),
  } satisfies Fields<Training>,
  "{ seed: 1 }",
);

/** A {@link Training} as read. */
export type NoiseSource = Read<typeof trainingOption>;

/** Checks that the noise is of one kind. */
export function checkRouterNoise({ noisy, routerJitter }: RouterNoise): RouterNoise {
  if (noisy !== undefined && routerJitter !== undefined) throw cannotCombine("routerJitter", "noisy");
  return { noisy, routerJitter };
}

/** Checks that the layer has noise for training, and that `training` says what it comes from. */
export function checkTraining({ device, description }: MoeLayer, training: NoiseSource, tokens: Tokens): void {
  const { noisy, routerJitter, numExperts, hierarchy } = description;
  if (noisy === undefined && routerJitter === undefined) {
    throw requires("training", "a layer with noisy or routerJitter");
  }
  const { seed, noise, groupNoise } = training;
  if ((seed === undefined) === (noise === undefined)) {
    throw invalidArgument("training", "exactly one of seed and noise", seed === undefined ? "neither" : "both");
  }
  if (groupNoise !== undefined && (hierarchy === undefined || noise === undefined)) {
    throw requires("training.groupNoise", "training.noise and a layer with hierarchy");
  }
  if (noise === undefined) return;
  if (noisy === undefined) throw invalidArgument("training.noise", "a seed in its place for routerJitter", noise);
  checkTensor("training.noise", noise, [tokens.dtype], [tokens.count, numExperts], device);
  if (hierarchy === undefined) return;
  checkTensor("training.groupNoise", groupNoise, [tokens.dtype], [tokens.count, hierarchy.numGroups], device);
}

/** x as a router with jitter sees it. */
export function jitterInput(layer: MoeLayer, x: TensorHandle, tokens: Tokens, seed: bigint, epsilon: number): Tensor {
  const { device, description } = layer;
  const jittered = device.empty([tokens.count, description.hiddenSize], tokens.inputDType);
  device.backend.jitter({ x, seed, epsilon, y: jittered.handle });
  return jittered;
}

/** A gate's logits with the noise of a layer with noisy gating, from `clean` ones [T, E], of the groups [T, G]. */
export function addNoise(
  { device, extraRouters, description }: MoeLayer,
  x: TensorHandle,
  clean: Tensor<"f32">,
  { seed, noise, groupNoise }: NoiseSource,
  gate: GateName,
): NoisyLogits {
  const { numExperts, noisy } = description;
  const router = gate === "experts" ? extraRouters.noiseRouter : extraRouters.groupNoiseRouter;
  const given = gate === "experts" ? noise : groupNoise;
  const offset = gate === "experts" ? 0 : (clean.shape[0] as number) * numExperts;
  using spread = device.empty(clean.shape, clean.dtype);
  device.backend.routerProjection({ x, weight: (router as Tensor).handle, logits: spread.handle });
  const source = given === undefined ? { seed: seed as bigint, offset } : { noise: given };
  return noisyLogits(clean, spread, { ...source, ...noisy });
}
