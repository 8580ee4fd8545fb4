import { invalidArgument, requires, unexpected } from "../../core/errors.js";
import { type Fields, object, optional, type Read } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor } from "../../operators/check.js";
import type { NoisyLogits } from "../../operators/noise/noisy_logits.js";
import { type Seed, seed } from "../../operators/noise/random.js";
import type { DeviceLayer } from "../device_layer.js";
import type { Tokens } from "./tokens.js";

/**
 * The source of one call's noise: a seed or, for `noisy`, the noise itself: [T, E] f32, plus [T, G] for the groups of a
 * hierarchy. With a seed, the noise for the groups begins at number T * E of the sequence, after that for the experts.
 */
export type Training =
  | {
      /** The same seed gives the same noise, on every device. */
      seed: Seed;
      /** Not with a seed. */
      noise?: undefined;
      /** Not with a seed. */
      groupNoise?: undefined;
    }
  | {
      /** [T, E] f32, in units of the deviation. */
      noise: Tensor<"f32">;
      /** [T, G] f32, for a layer with a hierarchy. */
      groupNoise?: Tensor<"f32"> | undefined;
      /** Not with noise. */
      seed?: undefined;
    };

/** A gate's logits with and without noise: what {@link expertLoad} takes. */
export interface GateLogits extends NoisyLogits {
  /** [T, E] f32, or [T, G] for the groups' gate. */
  readonly clean: Tensor<"f32">;
}

/** The logits that a layer routes by in training. */
export interface TrainingLogits extends GateLogits {
  /** Logits of the groups' gate, if the layer has a hierarchy. */
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

/** A {@link Training} after reading. */
export type NoiseSource = Read<typeof trainingOption>;

/** Checks that the layer has noise for training, and that `training` is a source for it. */
export function checkTraining({ device, description }: DeviceLayer, training: NoiseSource, tokens: Tokens): void {
  const { noisy, routerJitter, numExperts, hierarchy } = description;
  if (noisy === undefined && routerJitter === undefined) {
    throw requires("training", "a layer with noisy or routerJitter");
  }
  const { seed, noise, groupNoise } = training;
  if ((seed === undefined) === (noise === undefined)) {
    throw unexpected("training", "exactly one of seed and noise", seed === undefined ? "neither" : "both");
  }
  if (groupNoise !== undefined && (hierarchy === undefined || noise === undefined)) {
    throw requires("training.groupNoise", "training.noise and a layer with hierarchy");
  }
  if (noise === undefined) return;
  if (noisy === undefined) throw invalidArgument("training.noise", "a seed instead, for routerJitter", noise);
  checkTensor("training.noise", noise, [tokens.dtype], [tokens.count, numExperts], device);
  if (hierarchy === undefined) return;
  checkTensor("training.groupNoise", groupNoise, [tokens.dtype], [tokens.count, hierarchy.numGroups], device);
}
