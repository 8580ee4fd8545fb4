import { expect } from "vitest";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import { type Device, type FloatDType, MoeLayer, type MoeLayerOptions, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";

/**
 * Expects the same numbers from two ways through a layer. On `reference` a forward keeps its logits in float64, and the
 * router's operators round them, so there they may differ by `tolerance`; on other devices they have the same bits.
 */
export function expectSameRouted(
  device: string,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance = 5e-6,
): void {
  if (device === "reference") expect(relativeError(got, expected)).toBeLessThanOrEqual(tolerance);
  else expect(got).toEqual(expected);
}

/** Sizes that no vector divides. */
export const drawnSizes = { hidden: 33, inner: 17, experts: 6, topK: 3 } as const;
const { hidden, inner, experts, topK } = drawnSizes;

/** A tensor of normal numbers. */
export function drawnTensor<D extends FloatDType = "f32">(
  device: Device,
  seed: string,
  shape: Shape,
  dtype = "f32" as D,
  scale = 1,
): Tensor<D> {
  return device.tensor(new Random(seed).normals(shapeSize(shape), scale), shape, dtype);
}

/** The stacked weights of so many gated experts of these sizes. */
export function drawnExperts(device: Device, count: number, dtype: FloatDType = "f32") {
  const drawn = (seed: string, ...shape: number[]) => drawnTensor(device, seed, [count, ...shape], dtype, 0.3);
  return { gate: drawn("gate", inner, hidden), up: drawn("up", inner, hidden), down: drawn("down", hidden, inner) };
}

/** A layer of these sizes with random weights, whose seeds are their names, and all else as `config` says. */
export function drawnLayer(device: Device, config: Partial<MoeLayerOptions> = {}, dtype: FloatDType = "f32"): MoeLayer {
  const drawn = (seed: string, shape: number[], scale = 0.3) => drawnTensor(device, seed, shape, dtype, scale);
  const { latent, perExpertScale, routerNorm, noisy, sharedExpert, hierarchy, identityExperts = 0 } = config;
  const { topK: k = topK, bank = { first: 0, count: experts - identityExperts } } = config;
  const width = latent?.size ?? hidden;
  const stacked = (seed: string, ...shape: number[]) => {
    const all = drawn(seed, [experts, ...shape]);
    return all.rows(bank.first, bank.first + bank.count);
  };
  return MoeLayer.create({
    ...{ device, hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: k },
    router: drawn("router", [experts, hidden]),
    routerBias: drawn("router bias", [experts]),
    experts: {
      gate: stacked("gate", inner, width),
      up: stacked("up", inner, width),
      down: stacked("down", width, inner),
    },
    ...(latent && {
      latentDown: drawn("latent down", [width, hidden]),
      latentUp: drawn("latent up", [hidden, width]),
    }),
    ...(sharedExpert && {
      shared: {
        gate: drawn("shared gate", [20, hidden]),
        up: drawn("shared up", [20, hidden]),
        down: drawn("shared down", [hidden, 20]),
      },
      sharedGate: drawn("gate of shared", [1, hidden]),
    }),
    ...(perExpertScale && { expertScale: drawn("scale", [experts], 1) }),
    ...(routerNorm && { routerNormWeight: drawn("norm", [hidden], 1) }),
    ...(noisy && { noiseRouter: drawn("noise", [experts, hidden]) }),
    ...(hierarchy && { groupRouter: drawn("groups", [hierarchy.numGroups, hidden]) }),
    ...config,
  });
}
