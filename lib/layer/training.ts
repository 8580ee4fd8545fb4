import type { TensorHandle } from "../core/backend.js";
import { checkOptions, invalidArgument } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import { checkTensor } from "../operators/check.js";
import { checkJitterEpsilon } from "../operators/noise/jitter.js";
import { checkNoiseEpsilon, type NoisyLogits, noisyLogits } from "../operators/noise/noisy_logits.js";
import { checkSeed, type Seed } from "../operators/noise/random.js";
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

/** Checks the configuration and fills in the default. */
export function checkRouterNoise({ noisy, routerJitter }: RouterNoiseConfig): RouterNoise {
  if (routerJitter !== undefined) {
    checkJitterEpsilon("routerJitter", routerJitter);
    if (noisy !== undefined) throw invalidArgument("routerJitter", "none where noisy is given", routerJitter);
  }
  if (noisy === undefined) return { noisy, routerJitter };
  checkOptions(noisy, "{ epsilon: 0.01 }", "noisy");
  const { epsilon = 0.01 } = noisy;
  checkNoiseEpsilon("noisy.epsilon", epsilon);
  return { noisy: { epsilon }, routerJitter };
}

/** Checks that the layer has noise for training, and that `training` says what it comes from. */
export function checkTraining({ device, description }: MoeLayer, training: Training, tokens: Tokens): void {
  checkOptions(training, "{ seed: 1 }", "training");
  const { noisy, routerJitter, numExperts, hierarchy } = description;
  if (noisy === undefined && routerJitter === undefined) {
    throw invalidArgument("training", "none for a layer without noisy and routerJitter", training);
  }
  const { seed, noise, groupNoise } = training;
  if ((seed === undefined) === (noise === undefined)) {
    throw invalidArgument("training", "exactly one of seed and noise", seed === undefined ? "neither" : "both");
  }
  if (groupNoise !== undefined && (hierarchy === undefined || noise === undefined)) {
    throw invalidArgument("training.groupNoise", "none but beside noise for a layer with hierarchy", groupNoise);
  }
  if (noise === undefined) {
    checkSeed("training.seed", seed);
    return;
  }
  if (noisy === undefined) throw invalidArgument("training.noise", "a seed in its place for routerJitter", noise);
  checkTensor("training.noise", noise, [tokens.dtype], [tokens.count, numExperts], device);
  if (hierarchy === undefined) return;
  checkTensor("training.groupNoise", groupNoise, [tokens.dtype], [tokens.count, hierarchy.numGroups], device);
}

/** x as a router with jitter sees it. */
export function jitterInput(layer: MoeLayer, x: TensorHandle, tokens: Tokens, seed: Seed, epsilon: number): Tensor {
  const { device, description } = layer;
  const jittered = device.empty([tokens.count, description.hiddenSize], tokens.inputDType);
  device.backend.jitter(x, BigInt(seed), epsilon, jittered.handle);
  return jittered;
}

/** A gate's logits with the noise of a layer with noisy gating, from `clean` ones [T, E], of the groups [T, G]. */
export function addNoise(
  { device, extraRouters, description }: MoeLayer,
  x: TensorHandle,
  clean: Tensor<"f32">,
  { seed, noise, groupNoise }: Training,
  gate: GateName,
): NoisyLogits {
  const { numExperts, noisy } = description;
  const router = gate === "experts" ? extraRouters.noiseRouter : extraRouters.groupNoiseRouter;
  const given = gate === "experts" ? noise : groupNoise;
  const offset = gate === "experts" ? 0 : (clean.shape[0] as number) * numExperts;
  using spread = device.empty(clean.shape, clean.dtype);
  device.backend.routerProjection(x, (router as Tensor).handle, null, spread.handle);
  const source = given === undefined ? { seed: seed as Seed, offset } : { noise: given };
  return noisyLogits(clean, spread, { ...source, ...noisy });
}
