import { MoeLayer, Tensor } from "moe-kernels";
import type { ModelConfig } from "../config/config.js";
import type { BlockNames } from "../config/names.js";
import type { Weights } from "./weights.js";

/**
 * A layer without experts, y = down(silu(gate x) · up x), as a mixture of one expert, whose share is always 1. Its weights stay
 * in the format of the files.
 *
 * @throws RangeError for another activation.
 */
export async function loadDenseLayer(weights: Weights, names: BlockNames, config: ModelConfig): Promise<MoeLayer> {
  const { hiddenSize, dense } = config;
  const { intermediateSize, activation } = dense;
  if (activation !== "silu") {
    throw new RangeError(`hidden_act: expected silu in layers without experts, got ${JSON.stringify(activation)}`);
  }
  const { device } = weights;
  using gate = await weights.stored(`${names.gate}.weight`, [intermediateSize, hiddenSize]);
  using up = await weights.stored(`${names.up}.weight`, [intermediateSize, hiddenSize]);
  using down = await weights.stored(`${names.down}.weight`, [hiddenSize, intermediateSize]);
  using router = device.zeros([1, hiddenSize], gate instanceof Tensor ? gate.dtype : "f32");
  const experts = [{ gate, up, down }];
  const tokenFormat = weights.tokenFormatOf(gate, up, down);
  return MoeLayer.create({
    device,
    hiddenSize,
    intermediateSize,
    numExperts: 1,
    topK: 1,
    tokenFormat,
    router,
    experts,
  });
}
