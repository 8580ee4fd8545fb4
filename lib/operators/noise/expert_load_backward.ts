import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkResult, checkTensor } from "../check.js";
import { combine } from "../experts/combine.js";
import { Outputs } from "../outputs.js";
import { checkLoad, type ExpertLoadOptions, expertLoad, loadFields } from "./expert_load.js";

/** The gradients of a load's inputs. */
export interface ExpertLoadGradients {
  /** [T, E] f32 */
  readonly dClean: Tensor<"f32">;
  /** [T, E] f32, at the noisy logits that are thresholds. */
  readonly dNoisy: Tensor<"f32">;
  /** [T, E] f32 */
  readonly dDeviation: Tensor<"f32">;
}

/** {@link ExpertLoadGradients} with that of the groups' load. */
export interface GroupedExpertLoadGradients extends ExpertLoadGradients {
  /** [G] f32 */
  readonly dGroupLoad: Tensor<"f32">;
}

/** Options of {@link expertLoadBackward}. */
export interface ExpertLoadBackwardOptions extends Omit<ExpertLoadOptions, "out"> {
  /** Where to write; default new tensors. */
  out?: ExpertLoadGradients | GroupedExpertLoadGradients | undefined;
}

const backwardOptions = object(
  {
    ...loadFields,
    out: optional(
      results({
        dClean: tensor<"f32">(),
        dNoisy: tensor<"f32">(),
        dDeviation: tensor<"f32">(),
        dGroupLoad: optional(tensor<"f32">()),
      }),
    ),
  } satisfies Fields<ExpertLoadBackwardOptions>,
  "{ topK: 2 }",
);

/**
 * The gradients of {@link expertLoad}, with ranks and chosen groups held fixed. For each term Φ(z) of expert e's load, z =
 * (clean - threshold) / deviation and with the normal density φ: dClean = dLoad[e] · φ(z) / deviation, dDeviation = -z
 * times that, and the noisy logit that is the threshold gets minus dClean. With groups, dLoad is first multiplied by
 * groups.load[g] / the number of tokens that chose g.
 *
 * {@link noisyLogitsBackward} goes on from here: noisy = clean + noise · deviation, so dNoisy is part of its dLogits and
 * dDeviation its option; `clean` gets dClean + dNoisy.
 *
 * @param clean [T, E] f32, as expertLoad took it; so are `noisy` and `deviation`.
 * @param dLoad [E] f32.
 * @param options those of expertLoad; with `groups` the result has `dGroupLoad` too.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED. A group id out of range is
 * treated as -1 and reported as ID_OUT_OF_RANGE at the next wait.
 */
export function expertLoadBackward(
  clean: Tensor<"f32">,
  noisy: Tensor<"f32">,
  deviation: Tensor<"f32">,
  dLoad: Tensor<"f32">,
  options: ExpertLoadBackwardOptions & { groups: NonNullable<ExpertLoadBackwardOptions["groups"]> },
): GroupedExpertLoadGradients;
export function expertLoadBackward(
  clean: Tensor<"f32">,
  noisy: Tensor<"f32">,
  deviation: Tensor<"f32">,
  dLoad: Tensor<"f32">,
  options: ExpertLoadBackwardOptions,
): ExpertLoadGradients;
export function expertLoadBackward(
  clean: Tensor<"f32">,
  noisy: Tensor<"f32">,
  deviation: Tensor<"f32">,
  dLoad: Tensor<"f32">,
  options: ExpertLoadBackwardOptions,
): ExpertLoadGradients {
  const { topK, groups, tokenMask, out, mask } = checkLoad(clean, noisy, deviation, backwardOptions, options);
  const { device, shape, dtype } = clean;
  const [, experts] = shape as [number, number];
  checkTensor("dLoad", dLoad, [dtype], [experts], device);
  checkResult(out, "dGroupLoad", groups !== undefined, "groups");
  using outputs = new Outputs(device, [clean, noisy, deviation, dLoad, tokenMask, groups?.ids, groups?.load]);
  const dClean = outputs.next("out.dClean", out?.dClean, shape, dtype);
  const dNoisy = outputs.next("out.dNoisy", out?.dNoisy, shape, dtype);
  const dDeviation = outputs.next("out.dDeviation", out?.dDeviation, shape, dtype);
  device.backend.expertLoadBackward({
    clean: clean.handle,
    noisy: noisy.handle,
    deviation: deviation.handle,
    tokenMask: mask,
    topK,
    groupIds: groups?.ids.handle,
    groupLoad: groups?.load.handle,
    dLoad: dLoad.handle,
    dClean: dClean.handle,
    dNoisy: dNoisy.handle,
    dDeviation: dDeviation.handle,
  });
  if (groups === undefined) return outputs.returned({ dClean, dNoisy, dDeviation });

  // The load of each expert is proportional to its group's: dGroupLoad[g] = Σ dLoad · (load with a group load of 1).
  const dGroupLoad = outputs.next("out.dGroupLoad", out?.dGroupLoad, groups.load.shape, dtype);
  const count = groups.load.size;
  const size = experts / count;
  using ones = device.tensor(new Float64Array(count).fill(1), [count], dtype) as Tensor<"f32">;
  using load = expertLoad(clean, noisy, deviation, {
    topK,
    groups: { ids: groups.ids, load: ones },
    ...(tokenMask && { tokenMask }),
  });
  using rows = load.reshape([experts, 1]);
  using rowOfExpert = device.tensor(
    Int32Array.from({ length: experts }, (_, expert) => expert),
    [count, size],
  );
  using gradients = dLoad.reshape([count, size]);
  using sums = dGroupLoad.reshape([count, 1]);
  combine(rows, rowOfExpert, gradients, { out: sums });
  return outputs.returned({ dClean, dNoisy, dDeviation, dGroupLoad }) as GroupedExpertLoadGradients;
}
