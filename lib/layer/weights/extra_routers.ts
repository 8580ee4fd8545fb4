import type { FloatDType } from "../../core/dtype.js";
import { invalidArgument, requires } from "../../core/errors.js";
import type { Shape } from "../../core/shape.js";
import type { Tensor } from "../../core/tensor.js";
import type { MoeLayerConfig } from "../description/config.js";

// Devices hold a layer's main router. The layer itself keeps the other projections that its routing needs.

/** The weights of additional routers, named as in {@link LayerWeights}. */
const extraRouterRoles = ["noiseRouter", "groupRouter", "groupRouterBias", "groupNoiseRouter"] as const;

export type ExtraRouterRole = (typeof extraRouterRoles)[number];

/** The additional routers of a layer, in the dtype of its router. */
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

/** The additional routers that a layer's `noisy` and `hierarchy` need. */
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

/** Checks that exactly the additional routers that a layer needs are given. */
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
