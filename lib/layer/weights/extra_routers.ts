import type { FloatDType } from "../../core/dtype.js";
import { invalidArgument, requires } from "../../core/errors.js";
import type { Shape } from "../../core/shape.js";
import type { Tensor } from "../../core/tensor.js";
import type { MoeLayerConfig } from "../description/config.js";

// Devices compute with a layer's router; what else projects tokens for the routing the layer keeps itself.

/** The weights of routers beside the layer's own, by the names that {@link LayerWeights} has. */
export const extraRouterRoles = ["noiseRouter", "groupRouter", "groupRouterBias", "groupNoiseRouter"] as const;

export type ExtraRouterRole = (typeof extraRouterRoles)[number];

/** They are of the dtype of the layer's weights. */
export type ExtraRouters = Partial<Record<ExtraRouterRole, Tensor<FloatDType>>>;

interface ExtraRouter {
  readonly role: ExtraRouterRole;
  readonly shape: Shape;
  /** A bias may be left out. */
  readonly optional: boolean;
}

type RouterSizes = Pick<MoeLayerConfig, "hiddenSize" | "numExperts"> & {
  readonly noisy?: object | undefined;
  readonly hierarchy?: { readonly numGroups: number } | undefined;
};

/** What a layer's `noisy` and `hierarchy` have weights for. */
export function extraRouters({ hiddenSize, numExperts, noisy, hierarchy }: RouterSizes): readonly ExtraRouter[] {
  const groups = hierarchy?.numGroups ?? 0;
  const needed = (role: ExtraRouterRole, rows: number) => ({ role, shape: [rows, hiddenSize], optional: false });
  return [
    ...(noisy ? [needed("noiseRouter", numExperts)] : []),
    ...(hierarchy ? [needed("groupRouter", groups)] : []),
    ...(hierarchy ? [{ role: "groupRouterBias" as const, shape: [groups], optional: true }] : []),
    ...(noisy && hierarchy ? [needed("groupNoiseRouter", groups)] : []),
  ];
}

const causes: Readonly<Record<ExtraRouterRole, string>> = {
  noiseRouter: "noisy",
  groupRouter: "hierarchy",
  groupRouterBias: "hierarchy",
  groupNoiseRouter: "noisy and hierarchy",
};

/** Checks that what a layer needs is given and nothing else. */
export function checkExtraRouters(sizes: RouterSizes, given: Partial<Record<ExtraRouterRole, unknown>>): void {
  const known = extraRouters(sizes);
  for (const role of extraRouterRoles) {
    const router = known.find((router) => router.role === role);
    const cause = causes[role];
    if (given[role] !== undefined && router === undefined) {
      throw requires(role, cause);
    }
    if (given[role] === undefined && router?.optional === false) {
      throw invalidArgument(role, `a tensor for ${cause}`, undefined);
    }
  }
}
