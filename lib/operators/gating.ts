import { type Gating, type Scoring, scorings } from "../backend.js";
import type { FloatDType } from "../dtype.js";
import { checkChoice, checkInteger, checkOptions, invalidArgument } from "../errors.js";
import type { Tensor } from "../tensor.js";
import { checkTensor, output } from "./check.js";

/** The experts of every token and their weights. */
export interface Routing {
  /** [T, k] i32, each row in descending order of the key that the choice was made by; -1 is no expert. */
  readonly ids: Tensor<"i32">;
  /** [T, k] f32, the factor of each chosen expert's output. */
  readonly weights: Tensor<"f32">;
}

export interface GatingOptions {
  /** k, experts per token: 1 .. E. */
  topK: number;
  /** `softmax` (default): softmax over all experts, then choose. `softmax_selected`: choose, softmax over the chosen. */
  scoring?: Scoring;
  /** Divide the chosen weights by their sum; default false. */
  normalize?: boolean;
  /** Factor on the weights after that; default 1. */
  scale?: number;
  /** Where to write; default new tensors. */
  out?: Routing;
}

/**
 * Gating and top-k: for every token the k experts of the largest scores, and their weights.
 *
 * Computed in float32. Ties go to the lower expert id. A NaN logit ranks below everything and has no part in the
 * softmax; +Infinity takes all the weight (shared equally by several). A row without any finite logit still gets k
 * distinct ids, with weight 0, and is counted in `device.warnings.nonFiniteLogitRows`.
 *
 * Formula: Mixtral (softmax, normalize), OLMoE (softmax), Qwen3-MoE (softmax, either), gpt-oss (softmax_selected).
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT (k outside 1 .. E), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function gating(logits: Tensor<FloatDType>, options: GatingOptions): Routing {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { device } = logits;
  checkOptions(options, "{ topK: 2 }");
  const [tokens, experts] = logits.shape as [number, number];
  const description = checkGating(options, experts);
  const shape = [tokens, description.topK];
  const dtype = logits.dtype === "f64" ? ("f64" as "f32") : "f32";
  const ids = output("out.ids", options.out?.ids, device, shape, "i32", [logits]);
  const weights = output("out.weights", options.out?.weights, device, shape, dtype, [logits, ids]);
  device.backend.gating(logits.handle, ids.handle, weights.handle, description);
  return { ids, weights };
}

/** Checks gating options against the number of experts and fills in the defaults. */
export function checkGating(options: Omit<GatingOptions, "out">, experts: number): Gating {
  const { topK, scoring = "softmax", normalize = false, scale = 1 } = options;
  checkInteger("topK", topK, 1, experts);
  checkChoice("scoring", scoring, scorings);
  if (typeof normalize !== "boolean") throw invalidArgument("normalize", "a boolean", normalize);
  if (typeof scale !== "number" || !Number.isFinite(scale)) throw invalidArgument("scale", "a finite number", scale);
  return { topK, scoring, normalize, scale };
}
