import { invalidArgument } from "../../core/errors.js";
import { type Fields, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";

/** Options of {@link lookUpExperts}. */
export interface LookUpExpertsOptions {
  /** Where to write, [T, k] i32; default a new tensor. */
  out?: Tensor<"i32"> | undefined;
}

const lookUpOptions = object({ out: optional(tensor<"i32">()) } satisfies Fields<LookUpExpertsOptions>, "{ out }");

/**
 * The experts of tokens in hash routing, where a table has them for every id of the vocabulary (Hash Layers, arXiv
 * 2106.04426; the first layers of DeepSeek-V4): row `tokenIds[t]` of the table for each token. {@link gatingWeights} gives
 * their weights.
 *
 * @param table [V, k] i32, the experts of each of V token ids. They are not checked here.
 * @param tokenIds [T] i32, each 0 .. V-1, or -1 for padding, which gets experts of -1. Any other counts as -1 and is
 * ID_OUT_OF_RANGE at the next wait.
 * @returns ids [T, k] i32.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (2^31 experts or more of a token
 * id, overlapping `out`).
 */
export function lookUpExperts(
  table: Tensor<"i32">,
  tokenIds: Tensor<"i32">,
  options: LookUpExpertsOptions = {},
): Tensor<"i32"> {
  checkTensor("table", table, ["i32"], ["V", "k"]);
  const { device } = table;
  checkTensor("tokenIds", tokenIds, ["i32"], ["T"], device);
  const { out } = lookUpOptions(options, "options");
  const choices = table.shape[1] as number;
  if (choices >= 2 ** 31) throw invalidArgument("table", "fewer than 2^31 experts of a token id", choices);
  const shape = [tokenIds.size, choices];
  const ids = output("out", out, device, shape, "i32", [table, tokenIds]);
  device.backend.lookUpExperts({ table: table.handle, tokenIds: tokenIds.handle, ids: ids.handle });
  return ids;
}
