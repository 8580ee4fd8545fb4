import { invalidArgument, requires } from "../../core/errors.js";
import { type Fields, object, optional, type Read } from "../../core/options.js";
import type { Tensor } from "../../core/tensor.js";
import { tensor } from "../../core/tensor_option.js";
import { checkTensor } from "../../operators/check.js";
import type { NoisyLogits } from "../../operators/noise/noisy_logits.js";
import { type Seed, seed } from "../../operators/noise/random.js";
import type { DeviceLayer } from "../device_layer.js";
import type { Tokens } from "./tokens.js";

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

/** Checks that the layer has noise for training, and that `training` says what it comes from. */
export function checkTraining({ device, description }: DeviceLayer, training: NoiseSource, tokens: Tokens): void {
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
