import { sharedGateRows } from "../../core/layer/shared_gate.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../layer/create.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { expertsWithWeights } from "../../layer/description/identity_experts.js";
import { matrixRoles, presentRoles } from "../../layer/description/storage.js";
import { type ExpertWeights, expertRoles, expertShapes } from "../../layer/weights/expert_weights.js";

/** A tensor of normal values of mean 0. */
export type Draw = (shape: Shape, deviation: number) => Tensor<FloatDType>;

/**
 * The weights of one expert (or, with `lead`, several stacked), scaled to preserve the magnitude of values around 1.
 */
export function randomExpert(
  draw: Draw,
  config: MoeLayerConfig,
  width: number,
  biases: boolean,
  lead: Shape = [],
  hiddenSize = config.hiddenSize,
): ExpertWeights<Tensor<FloatDType>, Tensor<FloatDType>> {
  const shapes = expertShapes(hiddenSize, width);
  const roles = presentRoles(biases ? expertRoles : matrixRoles, config);
  const tensors = roles.map((role) => {
    const [, columns = 1] = shapes[role];
    return [role, draw([...lead, ...shapes[role]], columns ** -0.5)] as const;
  });
  return Object.fromEntries(tensors) as unknown as ExpertWeights<Tensor<FloatDType>, Tensor<FloatDType>>;
}

/** The weights of the routed experts, stacked, and what leads to them and back if they work on a projection. */
export function randomRouted(
  draw: Draw,
  config: MoeLayerConfig,
  biases: boolean,
): Pick<MoeLayerOptions, "latentDown" | "latentUp" | "latentNormWeight"> & {
  readonly experts: ExpertWeights<Tensor<FloatDType>, Tensor<FloatDType>>;
} {
  const { hiddenSize, intermediateSize, latent } = config;
  const size = latent?.size ?? hiddenSize;
  const experts = randomExpert(draw, config, intermediateSize, biases, [expertsWithWeights(config)], size);
  if (latent === undefined) return { experts };
  return {
    experts,
    latentDown: draw([size, hiddenSize], hiddenSize ** -0.5),
    latentUp: draw([hiddenSize, size], size ** -0.5),
    ...(latent.norm && { latentNormWeight: draw([size], 1) }),
  };
}

/** The shared expert's weights and gate, if the configuration has them. */
export function randomShared(
  draw: Draw,
  config: MoeLayerConfig,
  biases: boolean,
): Pick<MoeLayerOptions, "shared" | "sharedGate" | "sharedGateBias"> {
  if (config.sharedExpert === undefined) return {};
  const { intermediateSize: width, gate = "none" } = config.sharedExpert;
  const shared = randomExpert(draw, config, width, biases);
  if (gate === "none") return { shared };
  const rows = sharedGateRows(gate);
  const sharedGate = draw([rows, config.hiddenSize], config.hiddenSize ** -0.5);
  return { shared, sharedGate, ...(biases && { sharedGateBias: draw([rows], 1) }) };
}
