import { MoeError } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { MoeLayerDescription } from "../description/config.js";
import {
  askedFormat,
  type ExpertSet,
  formatsOf,
  type GivenExpert,
  type GivenFormats,
  matrixRoles,
  type WeightDTypes,
} from "../description/storage.js";
import type { ExpertRole, ExpertWeights } from "./expert_weights.js";
import type { Weight } from "./weight_layout.js";

/**
 * The weights of a layer. Each is a tensor of the shape given here or, if it is stored in another way (inputs first,
 * gate and up in one tensor), `{ tensor, orient, part, stacked }`; see {@link WeightLayout}.
 */
export interface LayerWeights<W = Weight, Expert = ExpertWeights<W, W>, Experts = Expert, Matrix = W, Table = W> {
  /** [E, H] */
  router: W;
  /** [E] */
  routerBias?: W | undefined;
  /** [E, H], for `noisy`: the projection that gives the deviation of the logits' noise. */
  noiseRouter?: W | undefined;
  /** [G, H], for `hierarchy`: the router of the groups. */
  groupRouter?: W | undefined;
  /** [G] */
  groupRouterBias?: W | undefined;
  /** [G, H], for `noisy` in a hierarchy: the groups' noiseRouter. */
  groupNoiseRouter?: W | undefined;
  /** [H], for `routerNorm`: what the normalised tokens are multiplied by, besides its `scale`; default ones. */
  routerNormWeight?: W | undefined;
  /** [E], for `perExpertScale`: what the weights of each expert's choices are multiplied by. */
  expertScale?: W | undefined;
  /** [V, k] i32, for `hashRouting`: the experts of each token id, from 0 to E - 1. */
  expertTable?: Table | undefined;
  /**
   * [E], added to the keys by which experts are chosen, never to the weights (e_score_correction_bias of DeepSeek-V3).
   */
  selectionBias?: W | undefined;
  /** Every expert's weights. */
  experts: Experts;
  /** The shared expert's weights, of width `sharedExpert.intermediateSize`. */
  shared?: Expert | undefined;
  /** Its gate: [1, H] for a sigmoid, [2, H] for a softmax. */
  sharedGate?: W | undefined;
  /** [1] or [2] */
  sharedGateBias?: W | undefined;
  /** [L, H], for `latent`: the projection of the tokens that the routed experts read. */
  latentDown?: Matrix | undefined;
  /** [H, L], for `latent`: the projection of the sum of a token's experts to its width. */
  latentUp?: Matrix | undefined;
  /** [L], for `latent.norm`. */
  latentNormWeight?: W | undefined;
}

/** Whether a gate or up projection has an input scale or order of its own, so that they cannot be one product. */
export function separatesGate<W>(
  layer: { readonly experts: readonly Matrices<W>[]; readonly shared?: Matrices<W> | undefined },
  changesInputs: (weight: W) => boolean,
): boolean {
  const experts = layer.shared ? [...layer.experts, layer.shared] : layer.experts;
  return experts.some(({ gate, up }) => gate !== undefined && [gate, up].some((one) => one && changesInputs(one)));
}

/** An expert's weights of any kind. */
type Matrices<W> = { readonly [Role in ExpertRole]?: W | undefined };

/** The formats of an expert's matrices. */
function expertFormats<W>(expert: Matrices<W>, formatOf: (weight: W) => WeightFormatName | undefined): GivenExpert {
  return Object.fromEntries(
    matrixRoles.map((role) => [role, expert[role] === undefined ? undefined : formatOf(expert[role])]),
  );
}

/**
 * Checks that every expert's matrices can be stored in the layer's formats, one for a role of all routed experts and one
 * for the shared expert's: quantised ones only if they have just this format, unless `dtype` asks for another.
 * @throws UNSUPPORTED_OPERATION
 */
export function checkFormats<W>(
  layer: { readonly experts: readonly Matrices<W>[]; readonly shared?: Matrices<W> | undefined },
  { formats }: Pick<MoeLayerDescription, "formats">,
  dtype: WeightFormatName | WeightDTypes | undefined,
  formatOf: (weight: W) => WeightFormatName | undefined,
): void {
  const check = (set: ExpertSet, name: string, expert: Matrices<W>) => {
    const stored = formatsOf(formats, set);
    for (const [role, format] of Object.entries(expertFormats(expert, formatOf)) as [keyof GivenExpert, string][]) {
      const expected = stored[role];
      if (format === undefined || format === expected || askedFormat(dtype, set, role) !== undefined) continue;
      if (isPlain(weightFormat(format)) && isPlain(weightFormat(expected))) continue;
      throw new MoeError(
        "UNSUPPORTED_OPERATION",
        `${name}.${role}: expected ${isPlain(weightFormat(expected)) ? "floats" : expected} as in the first expert, ` +
          `got ${format}; ` +
          'choose a dtype for the experts, such as dtype: { experts: "bf16" }',
      );
    }
  };
  for (const [index, expert] of layer.experts.entries()) check("experts", `experts[${index}]`, expert);
  if (layer.shared) check("shared", "shared", layer.shared);
}

/** The formats of a layer's weights, given its first expert. */
export function givenFormats<W>(
  layer: {
    readonly [Role in "routerBias" | "sharedGate" | "sharedGateBias" | "latentDown" | "latentUp"]?: W | undefined;
  } & {
    readonly router: W;
    readonly shared?: Matrices<W> | undefined;
  },
  expert: Matrices<W>,
  formatOf: (weight: W) => WeightFormatName | undefined,
): GivenFormats {
  const format = (weight: W | undefined) => (weight === undefined ? undefined : formatOf(weight));
  const ofExperts = [expert, layer.shared].flatMap((one) => [one?.gateBias, one?.upBias, one?.downBias]);
  const biases = [layer.routerBias, layer.sharedGateBias, ...ofExperts].filter((bias) => bias !== undefined);
  return {
    router: formatOf(layer.router) as FloatDType,
    sharedGate: format(layer.sharedGate) as FloatDType | undefined,
    ...expertFormats(expert, formatOf),
    shared: layer.shared && expertFormats(layer.shared, formatOf),
    latentDown: format(layer.latentDown),
    latentUp: format(layer.latentUp),
    biases: widest(biases.map((bias) => formatOf(bias) as FloatDType)),
  };
}

/** A dtype that holds the values of all of these exactly; undefined if there are none. */
function widest([first, ...others]: readonly FloatDType[]): FloatDType | undefined {
  if (others.every((dtype) => dtype === first)) return first;
  return first === "f64" || others.includes("f64") ? "f64" : "f32";
}
