import type { TensorHandle } from "../backend.js";
import { checkOptions, invalidArgument } from "../errors.js";
import { checkTensor } from "../operators/check.js";
import type { Routing } from "../operators/gating.js";
import { checkJitterEpsilon } from "../operators/jitter.js";
import { checkNoiseEpsilon, type NoisyLogits, noisyLogits } from "../operators/noisy_logits.js";
import { checkSeed, type Seed } from "../operators/random.js";
import type { Tensor } from "../tensor.js";
import type { MoeLayer } from "./layer.js";
import type { Tokens } from "./tokens.js";

/** How a layer's router is disturbed in training, so that tokens explore experts. At most one of the two. */
export interface RouterNoiseConfig {
  /**
   * Noisy top-k gating (arXiv 1701.06538): logits get normal noise of deviation softplus(noiseRouter x) + epsilon (default
   * 0.01), see {@link noisyLogits}.
   */
  noisy?: { epsilon?: number };
  /** The router's input, but not the experts', is multiplied by 1 - routerJitter .. 1 + routerJitter, see {@link jitter}. */
  routerJitter?: number;
}

/** A checked {@link RouterNoiseConfig}. */
export interface RouterNoise {
  readonly noisy: { readonly epsilon: number } | undefined;
  readonly routerJitter: number | undefined;
}

/** What one call's noise comes from: a seed of its own, or for `noisy` the noise itself, [T, E] f32. */
export type Training = { seed: Seed; noise?: undefined } | { noise: Tensor<"f32">; seed?: undefined };

/** Noisy logits, and without the noise: what {@link expertLoad} takes. */
export interface TrainingLogits extends NoisyLogits {
  /** [T, E] f32 */
  readonly clean: Tensor<"f32">;
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
  const { noisy, routerJitter, numExperts } = description;
  if (noisy === undefined && routerJitter === undefined) {
    throw invalidArgument("training", "none for a layer without noisy and routerJitter", training);
  }
  const { seed, noise } = training;
  if ((seed === undefined) === (noise === undefined)) {
    throw invalidArgument("training", "exactly one of seed and noise", seed === undefined ? "neither" : "both");
  }
  if (noise === undefined) checkSeed("training.seed", seed);
  else if (noisy === undefined) throw invalidArgument("training.noise", "a seed in its place for routerJitter", noise);
  else checkTensor("training.noise", noise, [tokens.dtype], [tokens.count, numExperts], device);
}

/** x as a router with jitter sees it. */
export function jitterInput(layer: MoeLayer, x: TensorHandle, tokens: Tokens, seed: Seed, epsilon: number): Tensor {
  const { device, description } = layer;
  const jittered = device.empty([tokens.count, description.hiddenSize], tokens.inputDType);
  device.backend.jitter(x, BigInt(seed), epsilon, jittered.handle);
  return jittered;
}

/** The logits of a layer with noisy gating, from `clean` ones. */
export function addNoise(
  { device, noiseRouter }: MoeLayer,
  x: TensorHandle,
  clean: Tensor<"f32">,
  training: Training,
  { epsilon }: { readonly epsilon: number },
): NoisyLogits {
  using spread = device.empty(clean.shape, clean.dtype);
  device.backend.routerProjection(x, (noiseRouter as Tensor).handle, null, spread.handle);
  return noisyLogits(
    clean,
    spread,
    training.noise === undefined ? { seed: training.seed, epsilon } : { noise: training.noise, epsilon },
  );
}

/** The layer's choice by given logits. */
export function gateLogits({ device, description }: MoeLayer, logits: Tensor<"f32">): Routing {
  const shape = [logits.shape[0] as number, description.topK];
  const ids = device.empty(shape, "i32");
  const weights = device.empty(shape, logits.dtype);
  device.backend.gating(logits.handle, null, ids.handle, weights.handle, description);
  return { ids, weights };
}
