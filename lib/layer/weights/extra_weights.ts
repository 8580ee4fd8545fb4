import { invalidArgument, requires } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayerConfig } from "../description/config.js";

// Devices hold a layer's experts and its main router. The layer itself keeps its extra weights: what else its routing needs
// (further projections, the weight of the router's norm, the experts' scales, the table of hash routing), and what leads to
// the experts and back, if these work on a projection.

/** What a layer with `latent` holds besides its experts, named as in {@link LayerWeights}. */
export const latentRoles = ["latentDown", "latentUp", "latentNormWeight"] as const;

export type LatentRole = (typeof latentRoles)[number];

/** The weights of the router's side that devices do not hold and that can be trained, named as in {@link LayerWeights}. */
export const trainedRouterRoles = [
  "noiseRouter",
  "groupRouter",
  "groupRouterBias",
  "groupNoiseRouter",
  "routerNormWeight",
  "expertScale",
] as const;

export type TrainedRouterRole = (typeof trainedRouterRoles)[number];

/** The extra weights that can be trained: those of floats. */
export const trainedRoles = [...trainedRouterRoles, ...latentRoles] as const;

export type TrainedRole = (typeof trainedRoles)[number];

/** All extra weights. */
const extraRoles = [...trainedRoles, "expertTable"] as const;

export type ExtraRole = (typeof extraRoles)[number];

/** Whether a weight is one of those of `latent`, and not of the router's side. */
export function isLatentRole(role: string): role is LatentRole {
  return (latentRoles as readonly string[]).includes(role);
}

/** The extra weights of the router's side. */
export type RouterRole = Exclude<ExtraRole, LatentRole>;

/** The tensors in which a layer keeps them: floats in the dtype of its router. */
export type RouterTensors = { [Role in RouterRole]?: RouterTensor<Role> };
export type RouterTensor<Role extends RouterRole> = Tensor<Role extends "expertTable" ? "i32" : FloatDType>;

interface ExtraWeight {
  readonly role: ExtraRole;
  readonly shape: Shape;
  /** For integers instead of floats: each is from 0 to this less one. */
  readonly limit?: number;
  /** Whether it may be left out. */
  readonly optional: boolean;
}

type LayerSizes = Pick<MoeLayerConfig, "hiddenSize" | "numExperts" | "topK" | "hashRouting"> & {
  readonly noisy?: object | undefined;
  readonly hierarchy?: { readonly numGroups: number } | undefined;
  readonly routerNorm?: object | undefined;
  readonly perExpertScale?: boolean | undefined;
  readonly latent?: { readonly size: number; readonly norm?: object | undefined } | undefined;
};

/** What a layer's `noisy`, `hierarchy`, `routerNorm`, `perExpertScale`, `hashRouting` and `latent` need. */
export function extraWeights(sizes: LayerSizes): readonly ExtraWeight[] {
  const { hiddenSize, numExperts, topK, noisy, hierarchy, routerNorm, perExpertScale, hashRouting, latent } = sizes;
  const groups = hierarchy?.numGroups ?? 0;
  const rows = hashRouting?.vocabularySize ?? 0;
  const needed = (role: ExtraRole, rows: number) => ({ role, shape: [rows, hiddenSize], optional: false });
  return [
    ...(noisy ? [needed("noiseRouter", numExperts)] : []),
    ...(hierarchy ? [needed("groupRouter", groups)] : []),
    ...(hierarchy ? [{ role: "groupRouterBias" as const, shape: [groups], optional: true }] : []),
    ...(noisy && hierarchy ? [needed("groupNoiseRouter", groups)] : []),
    ...(routerNorm ? [{ role: "routerNormWeight" as const, shape: [hiddenSize], optional: true }] : []),
    ...(perExpertScale ? [{ role: "expertScale" as const, shape: [numExperts], optional: false }] : []),
    ...(hashRouting ? [{ role: "expertTable" as const, shape: [rows, topK], optional: false, limit: numExperts }] : []),
    ...(latent ? [{ role: "latentDown" as const, shape: [latent.size, hiddenSize], optional: false }] : []),
    ...(latent ? [{ role: "latentUp" as const, shape: [hiddenSize, latent.size], optional: false }] : []),
    ...(latent?.norm ? [{ role: "latentNormWeight" as const, shape: [latent.size], optional: false }] : []),
  ];
}

/** The shape of an extra weight that a layer has. */
export function extraShape(sizes: LayerSizes, role: ExtraRole): Shape {
  return extraWeights(sizes).find((one) => one.role === role)?.shape as Shape;
}

const causes: Readonly<Record<ExtraRole, string>> = {
  noiseRouter: "noisy",
  groupRouter: "hierarchy",
  groupRouterBias: "hierarchy",
  groupNoiseRouter: "noisy and hierarchy",
  routerNormWeight: "routerNorm",
  expertScale: "perExpertScale",
  expertTable: "hashRouting",
  latentDown: "latent",
  latentUp: "latent",
  latentNormWeight: "latent.norm",
};

/** Checks that exactly the extra weights that a layer needs are given. */
export function checkExtraWeights(sizes: LayerSizes, given: Partial<Record<ExtraRole, unknown>>): void {
  const known = extraWeights(sizes);
  for (const role of extraRoles) {
    const needed = known.find((one) => one.role === role);
    const cause = causes[role];
    if (given[role] !== undefined && needed === undefined) throw requires(role, cause);
    if (given[role] === undefined && needed?.optional === false) {
      throw invalidArgument(role, `a tensor for ${cause}`, undefined);
    }
  }
}
