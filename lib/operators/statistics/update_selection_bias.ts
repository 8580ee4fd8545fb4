import { finite, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";

const updateOptions = object({ rate: optional(finite, 1e-3), out: optional(tensor<"f32">()) }, "{ rate: 1e-3 }");

/**
 * One step of loss-free balancing: an expert's bias rises by `rate` if it got fewer tokens than the mean, falls by
 * `rate` if it got more, and stays if it got exactly the mean (arXiv 2408.15664, algorithm 1; DeepSeek-V3, arXiv
 * 2412.19437).
 *
 * @param bias [E] f32, the selection bias that the tokens were routed with.
 * @param tokens [S, E] i32, the counts of the whole batch as {@link expertTotals} returns them, summed over sequences.
 * @param options.rate default 1e-3.
 * @param options.out where to write, [E]; may be `bias` itself; default a new tensor.
 * @returns the bias for the next step, [E] f32; see MoeLayer.setSelectionBias.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function updateSelectionBias(
  bias: Tensor<"f32">,
  tokens: Tensor<"i32">,
  options: { rate?: number | undefined; out?: Tensor<"f32"> | undefined } = {},
): Tensor<"f32"> {
  checkTensor("bias", bias, "float32", ["E"]);
  const { device } = bias;
  checkTensor("tokens", tokens, ["i32"], ["S", bias.size], device);
  const { rate, out } = updateOptions(options, "options");
  const others = out === bias ? [tokens] : [bias, tokens];
  const updated = output("out", out, device, bias.shape, bias.dtype, others);
  device.backend.updateSelectionBias({
    bias: bias.handle,
    tokens: tokens.handle,
    updated: updated.handle,
    rate,
  });
  return updated;
}
