import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { LayerBackward } from "../../layer/backward/layer_backward.js";
import type { LayerTensors } from "../../layer/backward/layer_tensors.js";
import type { Case } from "../case.js";
import { allowance, caseName, type LayerProblem, preparedLayer, projectionNames } from "./layer_case.js";
import { layerFormulas, layerRules, sharedExpertLayers } from "./layer_features.js";
import { latentLayers } from "./layer_latent.js";
import { layerRoutings } from "./layer_routing.js";

/** By the dtype of x; 16-bit ones also round at every step of the backward pass. */
const gradientTolerances: Readonly<Record<FloatDType, number>> = { f64: 1e-12, f32: 1e-5, f16: 1e-2, bf16: 6e-2 };

/** How a state is kept; as in MoeLayer.forward. */
interface Keeping {
  readonly recompute?: boolean;
  readonly offload?: boolean;
}

/** Runs a layer forward and backward. */
export function layerBackwardCase({ recompute = false, offload = false, ...problem }: LayerProblem & Keeping): Case {
  const { dtypes: [xDType] = ["f32"], routerInput = xDType } = problem;
  // The rounding errors of few tokens do not even out; a softmax of outputs has relative errors of absolute ones, twice.
  const more = (problem.tokens < 4 ? 4 : 1) * (problem.outputActivation === "softmax" ? 2 : 1);
  const tolerance = gradientTolerances[xDType] * allowance(problem) * more;
  const ofRouterInput = Math.max(tolerance, gradientTolerances[routerInput]);
  const named = (
    gradients: LayerTensors,
    { dx, dRouterInput, dWeights }: Pick<LayerBackward, "dx" | "dRouterInput" | "dWeights">,
  ): Record<string, Tensor> => {
    const experts = gradients.experts ?? [];
    const all = [...experts, ...(gradients.shared ? [gradients.shared] : [])].flatMap((expert, index) =>
      Object.entries(expert).map(([role, tensor]) => [`${role} of ${index}`, tensor as Tensor] as const),
    );
    const routers = projectionNames.flatMap((name) => (gradients[name] ? [[name, gradients[name]] as const] : []));
    const ofInputs = { dx, ...(dRouterInput && { dRouterInput }), ...(dWeights && { dWeights }) };
    return { ...ofInputs, ...Object.fromEntries([...all, ...routers]) };
  };
  const outputs = ["y", "dx", "dRouterInput", "dWeights", ...projectionNames];
  const experts = problem.numExperts + 1;
  const roles = ["gate", "up", "multiplier", "down", "gateBias", "upBias", "downBias"];
  for (let index = 0; index < experts; index++) outputs.push(...roles.map((role) => `${role} of ${index}`));
  return {
    name: `${caseName(problem)}${recompute ? " recompute" : ""}${offload ? " offload" : ""}`,
    operator: "layerBackward",
    tolerances: { ...Object.fromEntries(outputs.map((name) => [name, tolerance])), dRouterInput: ofRouterInput },
    // One expert's gradients may be far smaller than what they are the sums of, and a bias has few of them. What reaches a
    // router is the difference of what its experts' outputs are worth.
    magnitudes: Object.fromEntries(outputs.map((name) => [name, isOfRouter(name) ? 1 : 0.1])),
    groups: Object.fromEntries(outputs.map((name) => [name, groupOf(name)])),
    run(inputs) {
      const { layer, x, options } = preparedLayer(problem, inputs);
      const { y, state } = layer.forward(x, { ...options, save: true, recompute, offload });
      const dy = inputs.normals(x.shape, xDType);
      const { gradients, ...others } = layer.backward(state, dy);
      inputs.keep(gradients);
      return { y, ...named(gradients, others) };
    },
  };
}

const isOfRouter = (output: string) => projectionNames.some((name) => name === output);

/** The gradients of a weight and its bias are sums of the same rows; those of all experts together are many. */
function groupOf(output: string): string {
  return output.replace(/(Bias)?( of \d+)?$/, "");
}

const usual = { hiddenSize: 51, intermediateSize: 33, numExperts: 6, topK: 2, tokens: 13 } as const;

const latent = { latent: { size: 24, norm: {} }, sharedExpert: { intermediateSize: 40 } } as const;

/** The clamps' derivatives jump at their limits, from which 16-bit rows may be on the other side. */
const jumps = ({ activation, dtypes: [x] = ["f32", "f32"] }: LayerProblem) =>
  (activation === "swiglu_clamped" || activation === "swiglu_clamped_after") && x !== "f32";

/** Layers of every formula and routing. */
export const layerBackwardCases: readonly Case[] = [
  ...layerFormulas.filter((problem) => !jumps(problem)),
  ...sharedExpertLayers.filter((_, index) => index % 2 === 0),
  ...layerRules,
  ...layerRoutings,
  ...latentLayers,
  { ...usual, recompute: true },
  { ...usual, dtypes: ["bf16", "bf16"] as const, recompute: true, biases: true },
  { ...usual, multiplier: true, weightOn: "input" as const, recompute: true },
  { ...usual, offload: true, biases: true },
  { ...usual, dtypes: ["bf16", "f32"] as const, multiplier: true, offload: true },
  { ...usual, outputActivation: "softmax" as const, tokens: 0, offload: true },
  { ...usual, ...latent, recompute: true },
  { ...usual, ...latent, dtypes: ["bf16", "bf16"] as const, biases: true, offload: true },
].map(layerBackwardCase);
